"""Read the samples of a committed shard from its tar in order, and verify the tar against its manifest.

A webdataset shard is a tar in which the members of one sample (`KEY.jpg`, or `.png` or `.webp`, `KEY.json`, `KEY.txt`)
are consecutive. A damaged tar is easily misread as a shorter one, because tarfile treats a header that it cannot read
as the end. So the reader counts the samples, hashes the bytes and reports the wrong member.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.errors import IntegrityError
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store

MEMBERS = frozenset((*ENCODE_FORMATS, "json", "txt"))
"""The suffixes that a member may have: those of an image, its json and its caption."""
_TAIL_BYTES = 1 << 20


@dataclass(frozen=True)
class ShardSample:
    """One sample: img2dataset's key, the row's uid, the encoded image, its caption and the sample's json."""

    key: str
    uid: str
    image: bytes
    caption: str
    fields: dict[str, Any]


def read_shard(store: Store, layout: Layout, shard: ShardNumber, manifest: Manifest) -> Iterator[ShardSample]:
    """Yield the samples of a shard in the order of its tar; memory holds one at a time.

    Raises IntegrityError naming shard and member as soon as the tar turns out to be truncated or altered, or a member
    is missing or duplicated. A wrong sha256 of the whole tar is raised after the last sample, so commit nothing before
    the end.
    """
    path = ImageShards.path(layout, shard, ".tar")
    entry, where = manifest.entry(".tar"), store.address(path)
    size = store.size(path)
    if size is None:
        raise IntegrityError(f"{where}: missing. {AGAIN}")
    if size != entry.size:
        raise IntegrityError(
            f"{where}: has {size:,} bytes, but its manifest lists {entry.size:,}{_difference(store, layout, shard)}"
        )
    samples = 0
    with store.open(path) as file:
        stream = _Hashing(file)
        try:
            for key, members in _read_members(stream, where):
                yield _read_sample(key, members, where, manifest.is_adopted)
                samples += 1
        except tarfile.TarError as error:
            raise IntegrityError(
                f"{where}: truncated or damaged after {samples:,} samples ({error}). {AGAIN}"
            ) from error
        while stream.read(_TAIL_BYTES):
            pass
    if samples != manifest.counts.rows_out:
        raise IntegrityError(
            f"{where}: has {samples:,} samples, but its manifest lists {manifest.counts.rows_out:,}"
            f"{_difference(store, layout, shard)}"
        )
    if stream.digest.hexdigest() != entry.sha256:
        raise IntegrityError(
            f"{where}: altered: its sha256 differs from the manifest{_difference(store, layout, shard)}"
        )


def tar_keys(store: Store, layout: Layout, shard: ShardNumber) -> list[str]:
    """Return the keys of a shard's images in the order of the tar, with duplicates; ignores a damaged end."""
    keys = []
    try:
        with store.open(ImageShards.path(layout, shard, ".tar")) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]
                key, _, suffix = member.name.partition(".")
                if suffix in ENCODE_FORMATS:
                    keys.append(key)
    except (tarfile.TarError, FileNotFoundError):
        pass
    return keys


def success_keys(store: Store, layout: Layout, shard: ShardNumber) -> list[str]:
    """Return the keys with status `success` in a shard's parquet file, in order. Raises FileNotFoundError."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with store.open(ImageShards.path(layout, shard, ".parquet")) as file:
        table = pq.read_table(file, columns=["key", "status"])
    keys: list[str] = table.filter(pc.equal(table["status"], "success"))["key"].to_pylist()
    return keys


def first_difference(expected: list[str], found: list[str]) -> str | None:
    """Describe the first wrong key: duplicated, missing or unexpected. None if both have the same keys."""
    seen: set[str] = set()
    for key in found:
        if key in seen:
            return f"member {key} is duplicated"
        seen.add(key)
    expected_keys = set(expected)
    for key in expected:
        if key not in seen:
            return f"member {key} is missing"
    for key in found:
        if key not in expected_keys:
            return f"member {key} has no row with status success in the shard's parquet file"
    return None


class _Hashing:
    """A stream for tarfile that hashes the bytes it reads."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.digest.update(chunk)
        return chunk


def _read_members(stream: _Hashing, where: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, members by suffix) of each sample. Raises IntegrityError for unexpected or duplicate members."""
    seen: set[str] = set()
    current, members = "", dict[str, bytes]()
    # Members are read and never extracted, so their names are harmless.
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_TAIL_BYTES) as tar:  # type: ignore[call-overload]
        for member in tar:
            tar.members = []
            key, _, suffix = member.name.partition(".")
            if not member.isreg() or suffix not in MEMBERS:
                raise IntegrityError(f"{where}: unexpected member {member.name}. {AGAIN}")
            if key != current:
                if current:
                    yield current, members
                if key in seen:
                    raise IntegrityError(f"{where}: member {member.name} is duplicated. {AGAIN}")
                seen.add(key)
                current, members = key, {}
            if suffix in members:
                raise IntegrityError(f"{where}: member {member.name} is duplicated. {AGAIN}")
            content = tar.extractfile(member)
            members[suffix] = content.read() if content else b""
    if current:
        yield current, members


def _read_sample(key: str, members: dict[str, bytes], where: str, is_adopted: bool) -> ShardSample:
    """Build a sample from its members. The json of an adopted sample has no uid, or that of another program."""
    images = [suffix for suffix in ENCODE_FORMATS if suffix in members] or ["jpg"]
    missing = sorted({images[0], "json", "txt"} - members.keys())
    if missing:
        raise IntegrityError(f"{where}: member {key}.{missing[0]} is missing. {AGAIN}")
    if len(images) > 1:
        raise IntegrityError(f"{where}: member {key}.{images[0]} duplicates {key}.{images[1]}. {AGAIN}")
    try:
        fields = json.loads(members["json"])
        if fields["key"] != key:
            raise ValueError(f"its key is {fields['key']}")
        caption = members["txt"].decode("utf-8")
        uid = _compute_uid(fields) if is_adopted else fields["uid"]
    except (ValueError, KeyError, TypeError) as error:
        problem = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise IntegrityError(f"{where}: member {key}.json or .txt is invalid: {problem}. {AGAIN}") from error
    return ShardSample(key, uid, members[images[0]], caption, fields)


def _compute_uid(fields: dict[str, Any]) -> str:
    from laion_assets.dataset.identity import compute_uid

    return compute_uid(fields["url"], fields["caption"])


def _difference(store: Store, layout: Layout, shard: ShardNumber) -> str:
    """Return the end of an error message: how the members differ from the shard's parquet file, and the fix."""
    try:
        difference = first_difference(success_keys(store, layout, shard), tar_keys(store, layout, shard))
    except (OSError, ValueError):
        difference = None
    return f"; {difference}. {AGAIN}" if difference else f". {AGAIN}"


AGAIN = "Materialize this partition of image_shards again."
