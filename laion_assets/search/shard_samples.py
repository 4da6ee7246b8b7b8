"""Read single samples of a shard's tar by their offsets in its index, or by scanning the tar if that is not possible.

The index (`image_shards/shard/tar_index.py`) only saves time: each member is verified by its header in the tar. A shard
without an index (committed by an earlier version) is scanned. So is one whose index belongs to another tar, which the
asset check `row_counts` reports.
"""

import contextlib
import itertools
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, TypeVar

from laion_assets.errors import IntegrityError, StoreError
from laion_assets.stages.image_shards.shard.tar_index import (
    SUFFIX,
    Member,
    find_sample,
    iterate_index,
    read_member,
)
from laion_assets.store.store import Store

MAX_INDEX_BYTES = 64_000_000
"""Maximum size of an index that is read: one of 10,000 samples has 1 MB."""
Result = TypeVar("Result")


class ShardSamples:
    """The samples of an open tar, in its order; each is a list of members."""

    def __init__(self, tar: IO[bytes], index: str | None) -> None:
        """Without `index`, the headers of the tar are scanned."""
        self._tar = tar
        self._index = index

    def __iter__(self) -> Iterator[list[Member]]:
        """Yield the members of each sample. Raises IntegrityError (of the index) and tarfile.TarError (of the tar)."""
        return _scan(self._tar) if self._index is None else iterate_index(self._index)

    def find(self, key: str) -> list[Member]:
        """Return the members of one sample, empty if there is none with this key. Raises as iterating does."""
        if self._index is not None:
            return find_sample(self._index, key)
        return next((sample for sample in self if sample[0].sample == key), [])

    def read(self, member: Member) -> bytes:
        """Read a member's content. Raises IntegrityError if the tar does not have this member at its offset."""
        if self._index is not None:
            return read_member(self._tar, member)
        self._tar.seek(member.offset)
        content = self._tar.read(member.size)
        if len(content) != member.size:
            raise IntegrityError(f"The tar ends within {member.name}.")
        return content


def read_samples(store: Store, tar_path: str, read: Callable[[ShardSamples], Result]) -> Result:
    """Return `read` of the samples of a shard. `read` raises IntegrityError if they are not what it expects.

    If that happens with the samples of the index, and if there is no index, `read` is called with those of a scan.
    Raises tarfile.TarError, OSError and what `read` raises.
    """
    with store.open(tar_path) as tar:
        index = _read_index(store, tar_path.removesuffix(".tar") + SUFFIX)
        if index is not None:
            with contextlib.suppress(IntegrityError):
                return read(ShardSamples(tar, index))
        return read(ShardSamples(tar, None))


def _read_index(store: Store, path: str) -> str | None:
    """Return the text of an index, None if it is missing, too large or no text."""
    try:
        return store.read_bytes(path, MAX_INDEX_BYTES).decode("ascii")
    except (FileNotFoundError, StoreError, UnicodeDecodeError):
        return None


def _scan(file: IO[bytes]) -> Iterator[list[Member]]:
    """Yield the samples of a tar from its headers: the members before the same first dot that are consecutive."""
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        members = (Member(info.name, info.offset_data, info.size) for info in _regular_files(tar))
        for _, sample in itertools.groupby(members, key=lambda member: member.sample):
            yield list(sample)


def _regular_files(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for info in tar:
        tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header that it has read
        if info.isreg():
            yield info
