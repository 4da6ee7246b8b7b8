"""The manifest of a committed partition: its files, its inputs, and its dropped rows by reason.

Manifests are at `manifests/ASSET/KEY.json` in the store of the dataset, apart from the artefacts, because a foreign
json file among the tars breaks img2dataset. A partition is complete if and only if its manifest exists and agrees with
its files.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from laion_assets.errors import IntegrityError, InvariantError, StoreError
from laion_assets.store.paths import checked_path, folders_of_asset
from laion_assets.store.store import Store
from laion_assets.store.stored_json import MAX_COUNT, check_values, parse_object

FORMAT = 1
WHOLE = "all"
"""The partition key of an asset without partitions."""
MAX_MANIFEST_BYTES = 16 << 20
"""A larger manifest is not read. The manifest of a parquet file of `laion400m` has 100 KB."""
_MAX_BYTES = {"raw_csv": 512 << 20}
"""Exceptions: `raw_csv` names hundreds of thousands of files, with the version of each at its source."""
ADOPTED = "adopted"
"""The detail of a partition whose files another program made: the program, its folder, the time and the files."""
_CHUNK_BYTES = 1 << 20
_INDENTED_BELOW = 1_000


@dataclass(frozen=True)
class FileEntry:
    """One committed file: path relative to the store, size in bytes, sha256 in hex.

    `repeatable` is False for files that record the run itself, such as img2dataset's stats with durations. Two runs
    over the same input write different bytes for them.
    """

    path: str
    size: int
    sha256: str
    repeatable: bool = True


@dataclass(frozen=True)
class Counts:
    """The row-count invariant of one partition: rows_in = rows_out + sum(reasons)."""

    rows_in: int
    rows_out: int
    reasons: dict[str, int] = field(default_factory=dict)

    def check(self, where: str) -> None:
        """Raise InvariantError unless the counts add up and none is negative."""
        dropped = sum(self.reasons.values())
        if self.rows_in != self.rows_out + dropped or min(self.rows_in, self.rows_out, *self.reasons.values(), 0) < 0:
            raise InvariantError(
                f"{where}: {self.rows_in} rows in, {self.rows_out} out and {dropped} dropped by reason "
                f"{self.reasons}: {self.rows_in - self.rows_out - dropped} unaccounted for. Nothing was committed. "
                "This is a bug in the stage. Please report it with the log of the run."
            )


@dataclass(frozen=True)
class Manifest:
    """The record of a committed partition.

    `settings` is the digest of the settings that change bytes. `inputs` is the digest of the rows or files that were
    read. `outputs` has, by downstream key, the digest of the part that this key reads. For a parquet file this is one
    digest per shard, so that a change of one row group makes one shard stale and not all. `details` has further facts
    for people. `committed_at` is an ISO 8601 time with time zone. `seconds` is the duration of the transaction.
    """

    asset: str
    key: str
    files: tuple[FileEntry, ...]
    counts: Counts
    settings: str
    inputs: str
    outputs: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    committed_at: str = ""
    seconds: float = 0.0

    @cached_property  # the inputs of two stages at least
    def content(self) -> str:
        """The digest of the repeatable files. Equal for two runs that wrote the same bytes."""
        listed = sorted((entry.path, entry.sha256) for entry in self.files if entry.repeatable)
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]

    @property
    def size(self) -> int:
        """The size of all files, in bytes."""
        return sum(entry.size for entry in self.files)

    @property
    def is_adopted(self) -> bool:
        """Whether another program made the files (`laion-assets adopt`)."""
        return bool(self.adopted)

    @property
    def adopted(self) -> dict[str, Any]:
        """The detail `adopted`: program, folder, at, method, files; empty if this program made the files."""
        found = self.details.get(ADOPTED)
        return found if isinstance(found, dict) else {}

    def entry(self, suffix: str) -> FileEntry:
        """Return the file whose path ends with `suffix`. Raises IntegrityError if there is none."""
        for entry in self.files:
            if entry.path.endswith(suffix):
                return entry
        raise IntegrityError(f"The manifest of {self.asset} {self.key} has no file that ends in {suffix!r}.")

    def to_json(self) -> bytes:
        """Serialize the manifest for storage."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields |= {"format": FORMAT, "files": [vars(entry) for entry in self.files], "counts": vars(self.counts)}
        # Indented for people. The hundreds of thousands of files of raw_csv are written ten times faster without.
        indent = 1 if len(self.files) < _INDENTED_BELOW else None
        return json.dumps(fields, indent=indent, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> "Manifest":
        """Parse a stored manifest. Raises IntegrityError naming `where` and the problem."""
        try:
            return cls.from_fields(parse_object(content))
        except (ValueError, StoreError) as error:
            raise _damaged_error(where, error) from error

    @classmethod
    def from_fields(cls, stored: dict[str, Any]) -> "Manifest":
        """Build a manifest from parsed JSON. Raises ValueError for content that `to_json` never writes."""
        if stored.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}, the only one that this version reads")
        asset, files = stored.get("asset"), stored.get("files")
        if type(asset) is not str:
            raise ValueError("its asset is not text")
        if type(files) is not list:
            raise ValueError("its files are not a list")
        folders = folders_of_asset(asset)
        try:
            stored["files"] = entries = tuple([_parse_entry(entry, folders) for entry in files])
            stored["counts"] = _parse_counts(stored["counts"])
            manifest = cls(**stored)
        except (TypeError, KeyError) as error:  # "... got an unexpected keyword argument 'x'"
            raise ValueError(f"its fields are wrong: {str(error).partition('() ')[2] or error}") from error
        if len({entry.path for entry in entries}) != len(entries):
            raise ValueError("it has a duplicate file")
        texts = (manifest.key, manifest.settings, manifest.inputs, manifest.committed_at)
        if tuple(map(type, texts)) != (str, str, str, str):
            raise ValueError("its key, settings, inputs or committed_at is not text")
        if type(manifest.outputs) is not dict or type(manifest.details) is not dict:
            raise ValueError("its outputs or details are not an object")
        if type(manifest.seconds) not in (float, int) or not 0 <= manifest.seconds <= MAX_COUNT:
            raise ValueError("its seconds are not a valid duration")
        for digest in manifest.outputs.values():
            if type(digest) is not str:
                raise ValueError("the digest of an output is not text")
        check_values(manifest.details)
        if manifest.committed_at and datetime.fromisoformat(manifest.committed_at).tzinfo is None:
            raise ValueError("its committed_at has no time zone")
        return manifest


def _damaged_error(where: str, error: Exception) -> IntegrityError:
    return IntegrityError(f"{where} is damaged ({error}). Materialize this partition again, which replaces it.")


def _parse_entry(stored: Any, folders: tuple[str, ...]) -> FileEntry:
    """Parse a file of a manifest. Its path must be in a folder of the asset. Raises ValueError and StoreError."""
    entry = FileEntry(**stored)
    path, size, sha256 = entry.path, entry.size, entry.sha256
    if type(path) is not str or not checked_path(path).startswith(folders):
        raise ValueError(f"it names {str(path)[:200]!r}, which is not a path in {' or '.join(folders)}")
    if type(size) is not int or not 0 <= size <= MAX_COUNT or type(entry.repeatable) is not bool:
        raise ValueError(f"the size of {path} is not a number of bytes, or its repeatable is not true or false")
    if type(sha256) is not str or len(sha256) != 64 or len(bytes.fromhex(sha256)) != 32:
        raise ValueError(f"the sha256 of {path} is {str(sha256)[:80]!r}")
    return entry


def _parse_counts(stored: Any) -> Counts:
    counts = Counts(**stored)
    if type(counts.reasons) is not dict:
        raise ValueError("its reasons are not an object")
    rows = (counts.rows_in, counts.rows_out, *counts.reasons.values())
    for number in rows:
        if type(number) is not int or not 0 <= number <= MAX_COUNT:
            raise ValueError(f"a count of rows is {str(number)[:80]!r}")
    if 2 * counts.rows_in != sum(rows):
        raise ValueError(f"{counts.rows_in} rows in are not {counts.rows_out} rows out plus rows dropped by reason")
    return counts


def manifest_path(asset: str, key: str) -> str:
    """Return the path of the manifest of a partition."""
    return f"manifests/{asset}/{key}.json"


def manifest_limit(asset: str) -> int:
    """Return the maximum size of a manifest of the asset, in bytes."""
    return _MAX_BYTES.get(asset, MAX_MANIFEST_BYTES)


def read_manifest(store: Store, asset: str, key: str) -> Manifest | None:
    """Read the manifest of a partition. Returns None if there is none. Raises IntegrityError for a damaged one."""
    path = manifest_path(asset, key)
    try:
        content = store.read_bytes(path, manifest_limit(asset))
    except FileNotFoundError:
        return None
    try:
        manifest = Manifest.from_fields(parse_object(content))
    except (ValueError, StoreError) as error:
        raise _damaged_error(store.address(path), error) from error
    if manifest.asset != asset or manifest.key != key:
        raise IntegrityError(
            f"{store.address(path)} is misplaced: it is the manifest of {manifest.asset} {manifest.key}. Move it away, "
            f"then materialize {asset} {key} again."
        )
    return manifest


def disagreement(store: Store, manifest: Manifest, *, hashes: bool = False) -> str | None:
    """Return why the files disagree with their manifest, or None. Compares sizes, with `hashes` also sha256."""
    try:
        sizes = store.sizes(entry.path for entry in manifest.files)
    except StoreError as error:  # a folder of the path is a symbolic link
        return str(error)
    for entry in manifest.files:
        size = sizes[entry.path]
        if size is None:
            return store.problem_at(entry.path)
        if size != entry.size:
            return f"{store.address(entry.path)} has {size} bytes, but its manifest lists {entry.size}"
        if hashes:
            with store.open(entry.path) as file:
                if compute_sha256(file) != entry.sha256:
                    return f"{store.address(entry.path)} was altered: its sha256 differs from its manifest"
    return None


def read_committed_file(store: Store, entry: FileEntry, limit: int = MAX_MANIFEST_BYTES) -> bytes:
    """Read a small committed file of at most `limit` bytes. Raises IntegrityError if it differs from its manifest."""
    try:
        content = store.read_bytes(entry.path, limit)
    except FileNotFoundError:
        raise IntegrityError(f"{store.address(entry.path)} is missing. Materialize its asset again.") from None
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{store.address(entry.path)} was altered: its sha256 differs from its manifest. Materialize its asset "
            "again."
        )
    return content


def compute_sha256(file: IO[bytes]) -> str:
    """Return the sha256, in hex, of the rest of an open file. Reads in chunks."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def build_file_entry(local: Path, path: str, repeatable: bool = True) -> FileEntry:
    """Build the entry of a local file that will be committed at `path`."""
    with local.open("rb") as file:
        return FileEntry(path, local.stat().st_size, compute_sha256(file), repeatable)
