"""The samples of a published shard, streamed from its tar in order, with every byte held against the manifest.

A webdataset shard is a tar in which the members of one sample (`KEY.jpg`, or `.png` or `.webp`, `KEY.json`, `KEY.txt`)
stand together. A damaged tar is easily misread as a shorter one: tarfile takes a header that it cannot read for the
end. So the reader counts, hashes what passes, and says which member is wrong.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.errors import IntegrityError
from laion_assets.stages.handles import ImageShards
from laion_assets.stages.image_shards.settings import ENCODE_FORMATS
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store

MEMBERS = frozenset((*ENCODE_FORMATS, "json", "txt"))
"""The members that a sample may have: one picture, its json and its caption."""
_TAIL_BYTES = 1 << 20


@dataclass(frozen=True)
class ShardSample:
    """One sample: img2dataset's key, the row's uid, the picture's bytes, its caption and the sample's json."""

    key: str
    uid: str
    picture: bytes
    caption: str
    fields: dict[str, Any]


def read_shard(store: Store, layout: Layout, shard: ShardNumber, manifest: Manifest) -> Iterator[ShardSample]:
    """The samples of a shard in the order of its tar; memory holds one at a time.

    Raises IntegrityError naming shard and member as soon as the tar is seen to be cut, altered, or to lack or double a
    member; what only the hash of the whole shows is raised after the last sample, so publish nothing before the end.
    """
    path = ImageShards.path(layout, shard, ".tar")
    entry, where = manifest.entry(".tar"), store.address(path)
    size = store.size(path)
    if size is None:
        raise IntegrityError(f"{where}: missing. {AGAIN}")
    if size != entry.size:
        raise IntegrityError(f"{where}: {size} bytes, its manifest says {entry.size}{_why(store, layout, shard)}")
    samples = 0
    with store.open(path) as file:
        stream = _Hashing(file)
        try:
            for key, members in _grouped(stream, where):
                yield _sample(key, members, where)
                samples += 1
        except tarfile.TarError as error:
            raise IntegrityError(f"{where}: cut or damaged after {samples} samples ({error}). {AGAIN}") from error
        while stream.read(_TAIL_BYTES):
            pass
    if samples != manifest.counts.rows_out:
        raise IntegrityError(
            f"{where}: {samples} samples, its manifest says {manifest.counts.rows_out}{_why(store, layout, shard)}"
        )
    if stream.digest.hexdigest() != entry.sha256:
        raise IntegrityError(f"{where}: altered, its sha256 is not the manifest's{_why(store, layout, shard)}")


def tar_keys(store: Store, layout: Layout, shard: ShardNumber) -> list[str]:
    """The keys of a shard's pictures in the order of the tar, doubled ones twice; a damaged end is left out."""
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
    """The keys that a shard's parquet lists with the status `success`, in its order. Raises FileNotFoundError."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with store.open(ImageShards.path(layout, shard, ".parquet")) as file:
        table = pq.read_table(file, columns=["key", "status"])
    keys: list[str] = table.filter(pc.equal(table["status"], "success"))["key"].to_pylist()
    return keys


def first_difference(expected: list[str], found: list[str]) -> str | None:
    """What is wrong with the keys found, naming the first: doubled, missing or foreign; None if they agree as sets."""
    seen: set[str] = set()
    for key in found:
        if key in seen:
            return f"member {key} is doubled"
        seen.add(key)
    wanted = set(expected)
    for key in expected:
        if key not in seen:
            return f"member {key} is missing"
    for key in found:
        if key not in wanted:
            return f"member {key} is not a success of the shard's parquet"
    return None


class _Hashing:
    """A stream for tarfile that hashes all that passes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.digest.update(chunk)
        return chunk


def _grouped(stream: _Hashing, where: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, members by suffix) of each run of members that share a key. Raises IntegrityError."""
    seen: set[str] = set()
    current, members = "", dict[str, bytes]()
    # The stream is ours and the members are read, never extracted, so their names can do no harm.
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
                    raise IntegrityError(f"{where}: member {member.name} is doubled. {AGAIN}")
                seen.add(key)
                current, members = key, {}
            if suffix in members:
                raise IntegrityError(f"{where}: member {member.name} is doubled. {AGAIN}")
            content = tar.extractfile(member)
            members[suffix] = content.read() if content else b""
    if current:
        yield current, members


def _sample(key: str, members: dict[str, bytes], where: str) -> ShardSample:
    pictures = [suffix for suffix in ENCODE_FORMATS if suffix in members] or ["jpg"]
    missing = sorted({pictures[0], "json", "txt"} - members.keys())
    if missing:
        raise IntegrityError(f"{where}: member {key}.{missing[0]} is missing. {AGAIN}")
    if len(pictures) > 1:
        raise IntegrityError(f"{where}: member {key}.{pictures[0]} is doubled by {key}.{pictures[1]}. {AGAIN}")
    try:
        fields = json.loads(members["json"])
        if fields["key"] != key:
            raise ValueError(f"its key is {fields['key']}")
        uid, caption = fields["uid"], members["txt"].decode("utf-8")
    except (ValueError, KeyError, TypeError) as error:
        problem = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise IntegrityError(f"{where}: member {key}.json or .txt is damaged: {problem}. {AGAIN}") from error
    return ShardSample(key, uid, members[pictures[0]], caption, fields)


def _why(store: Store, layout: Layout, shard: ShardNumber) -> str:
    """The end of a message: what the members say against the shard's parquet, and what to do."""
    try:
        difference = first_difference(success_keys(store, layout, shard), tar_keys(store, layout, shard))
    except (OSError, ValueError):
        difference = None
    return f"; {difference}. {AGAIN}" if difference else f". {AGAIN}"


AGAIN = "Materialize this partition of image_shards again."
