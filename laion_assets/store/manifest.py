"""The manifest of a published partition: what files it has, what they came from, and what was dropped and why.

Manifests live at `manifests/ASSET/KEY.json` in the dataset's store, apart from the artefacts (a foreign json among the
tars breaks img2dataset). A partition is complete if and only if its manifest is there and agrees with the files.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
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
"""A larger manifest is not read: that of a parquet file of `laion400m` has 100 KB."""
_MAX_BYTES = {"raw_csv": 512 << 20}
"""Except of `raw_csv`, which names hundreds of thousands of files and what their source said of each."""
_CHUNK_BYTES = 1 << 20
_INDENTED_BELOW = 1_000


@dataclass(frozen=True)
class FileEntry:
    """One published file: path relative to the store, size in bytes, sha256 in hex.

    `repeatable` is False for files that record the run itself (img2dataset's stats with their durations): two runs
    over the same input give them other bytes.
    """

    path: str
    size: int
    sha256: str
    repeatable: bool = True


@dataclass(frozen=True)
class Counts:
    """The law of conservation of one partition: rows_in = rows_out + sum(reasons)."""

    rows_in: int
    rows_out: int
    reasons: dict[str, int] = field(default_factory=dict)

    def check(self, where: str) -> None:
        """Raises ConservationError unless the counts add up and none is negative."""
        dropped = sum(self.reasons.values())
        if self.rows_in != self.rows_out + dropped or min(self.rows_in, self.rows_out, *self.reasons.values(), 0) < 0:
            raise InvariantError(
                f"{where}: {self.rows_in} rows in, {self.rows_out} out and {dropped} dropped by reason "
                f"{self.reasons}: {self.rows_in - self.rows_out - dropped} unaccounted for. Nothing was published; "
                "this is a defect of the stage, please report it with the run's log."
            )


@dataclass(frozen=True)
class Manifest:
    """What a published partition is.

    `settings` is the digest of the settings that change bytes, `inputs` the digest of the rows or files it read.
    `outputs` gives, by downstream key, the digest of the part that this key reads (a parquet file: one a shard), so
    that a change of one row group makes one shard stale and not all. `details` holds further facts for people.
    """

    asset: str
    key: str
    files: tuple[FileEntry, ...]
    counts: Counts
    settings: str
    inputs: str
    outputs: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    published_at: str = ""
    seconds: float = 0.0

    @property
    def content(self) -> str:
        """Digest of the repeatable files: equal for two runs that gave the same bytes."""
        listed = sorted((entry.path, entry.sha256) for entry in self.files if entry.repeatable)
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def entry(self, suffix: str) -> FileEntry:
        """The one file whose path ends so. Raises IntegrityError if there is none."""
        for entry in self.files:
            if entry.path.endswith(suffix):
                return entry
        raise IntegrityError(f"the manifest of {self.asset} {self.key} names no file that ends in {suffix!r}.")

    def to_json(self) -> bytes:
        """The manifest as it is stored."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields |= {"format": FORMAT, "files": [vars(entry) for entry in self.files], "counts": vars(self.counts)}
        # Indented for people; raw_csv's hundreds of thousands of files are for programs, and ten times faster without.
        indent = 1 if len(self.files) < _INDENTED_BELOW else None
        return json.dumps(fields, indent=indent, sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> "Manifest":
        """The manifest from its stored form. Raises IntegrityError naming `where` and what is wrong with it."""
        try:
            return cls.from_fields(parse_object(content))
        except (ValueError, StoreError) as error:
            raise _damaged(where, error) from error

    @classmethod
    def from_fields(cls, stored: dict[str, Any]) -> "Manifest":
        """The manifest from its parsed form. Raises ValueError for anything that `to_json` would not have written."""
        if stored.pop("format", None) != FORMAT:
            raise ValueError(f"its format is not {FORMAT}, the one that this version reads")
        asset, files = stored.get("asset"), stored.get("files")
        if type(asset) is not str:
            raise ValueError("its asset is not text")
        if type(files) is not list:
            raise ValueError("its files are not a list")
        folders = folders_of_asset(asset)
        try:
            stored["files"] = entries = tuple([_entry(entry, folders) for entry in files])
            stored["counts"] = _counts(stored["counts"])
            manifest = cls(**stored)
        except (TypeError, KeyError) as error:  # "... got an unexpected keyword argument 'x'"
            raise ValueError(f"its fields are others: {str(error).partition('() ')[2] or error}") from error
        if len({entry.path for entry in entries}) != len(entries):
            raise ValueError("it names a file twice")
        texts = (manifest.key, manifest.settings, manifest.inputs, manifest.published_at)
        if tuple(map(type, texts)) != (str, str, str, str):
            raise ValueError("its key, settings, inputs or published_at is not text")
        if type(manifest.outputs) is not dict or type(manifest.details) is not dict:
            raise ValueError("its outputs or its details are not an object")
        if type(manifest.seconds) not in (float, int) or not 0 <= manifest.seconds <= MAX_COUNT:
            raise ValueError("its seconds are not a number of seconds")
        for digest in manifest.outputs.values():
            if type(digest) is not str:
                raise ValueError("an output's digest is not text")
        check_values(manifest.details)
        if manifest.published_at and datetime.fromisoformat(manifest.published_at).tzinfo is None:
            raise ValueError("its published_at has no time zone")
        return manifest


def _damaged(where: str, error: Exception) -> IntegrityError:
    return IntegrityError(f"{where} is damaged ({error}): materialize this partition again, which replaces it.")


def _entry(stored: Any, folders: tuple[str, ...]) -> FileEntry:
    """One file of a manifest, whose path lies in one of the asset's folders. Raises ValueError and StoreError."""
    entry = FileEntry(**stored)
    path, size, sha256 = entry.path, entry.size, entry.sha256
    if type(path) is not str or not checked_path(path).startswith(folders):
        raise ValueError(f"it names {str(path)[:200]!r}, which is not a path in {' or '.join(folders)}")
    if type(size) is not int or not 0 <= size <= MAX_COUNT or type(entry.repeatable) is not bool:
        raise ValueError(f"the size of {path} is not a number of bytes, or its repeatable not true or false")
    if type(sha256) is not str or len(sha256) != 64 or len(bytes.fromhex(sha256)) != 32:
        raise ValueError(f"the sha256 of {path} is {str(sha256)[:80]!r}")
    return entry


def _counts(stored: Any) -> Counts:
    counts = Counts(**stored)
    if type(counts.reasons) is not dict:
        raise ValueError("its reasons are not an object")
    rows = (counts.rows_in, counts.rows_out, *counts.reasons.values())
    for number in rows:
        if type(number) is not int or not 0 <= number <= MAX_COUNT:
            raise ValueError(f"a count of rows is {str(number)[:80]!r}")
    if 2 * counts.rows_in != sum(rows):
        raise ValueError(f"{counts.rows_in} rows in are not {counts.rows_out} rows out and those dropped by reason")
    return counts


def manifest_path(asset: str, key: str) -> str:
    """Where the manifest of a partition lives in the store."""
    return f"manifests/{asset}/{key}.json"


def manifest_limit(asset: str) -> int:
    """The bytes that a manifest of the asset has at most."""
    return _MAX_BYTES.get(asset, MAX_MANIFEST_BYTES)


def read_manifest(store: Store, asset: str, key: str) -> Manifest | None:
    """The manifest of a partition, None where there is none. Raises IntegrityError for a damaged or misplaced one."""
    path = manifest_path(asset, key)
    try:
        content = store.read_bytes(path, manifest_limit(asset))
    except FileNotFoundError:
        return None
    try:
        manifest = Manifest.from_fields(parse_object(content))
    except (ValueError, StoreError) as error:
        raise _damaged(store.address(path), error) from error
    if manifest.asset != asset or manifest.key != key:
        raise IntegrityError(f"{store.address(path)} is the manifest of {manifest.asset} {manifest.key}, misplaced.")
    return manifest


def disagreement(store: Store, manifest: Manifest, *, hashes: bool = False) -> str | None:
    """Why the files do not agree with their manifest, None if they do: by size, with `hashes` also by sha256."""
    try:
        sizes = store.sizes(entry.path for entry in manifest.files)
    except StoreError as error:  # A folder on the way is a symbolic link.
        return str(error)
    for entry in manifest.files:
        size = sizes[entry.path]
        if size is None:
            return store.problem_at(entry.path)
        if size != entry.size:
            return f"{store.address(entry.path)} has {size} bytes and its manifest says {entry.size}"
        if hashes:
            with store.open(entry.path) as file:
                if sha256_of(file) != entry.sha256:
                    return f"{store.address(entry.path)} was altered: its sha256 is not the manifest's"
    return None


def read_published(store: Store, entry: FileEntry, limit: int = MAX_MANIFEST_BYTES) -> bytes:
    """The content of a small published file. Raises IntegrityError unless it is what its manifest says."""
    try:
        content = store.read_bytes(entry.path, limit)
    except FileNotFoundError:
        raise IntegrityError(f"{store.address(entry.path)} is missing: materialize its asset again.") from None
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{store.address(entry.path)} was altered, its sha256 is not the manifest's: materialize its asset again."
        )
    return content


def sha256_of(file: IO[bytes]) -> str:
    """sha256 in hex of the rest of an open file, read in pieces."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def entry_of(local: Path, path: str, repeatable: bool = True) -> FileEntry:
    """The entry of a local file that is to be published at `path`."""
    with local.open("rb") as file:
        return FileEntry(path, local.stat().st_size, sha256_of(file), repeatable)
