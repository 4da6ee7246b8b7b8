"""A shard's tar, member by member: what webdataset's TarWriter writes for whole times, without a TarInfo for each.

(For a time with a fraction, which img2dataset leaves it, it writes two blocks more before each member: a pax header.)
A header (POSIX ustar) differs from the next one only in name, size and checksum, so one made by `tarfile` serves as the
pattern of all. Reading compares whole headers with what they have to be.
"""

import functools
import tarfile
from collections.abc import Iterable
from typing import IO

END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)
NAME, SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)


def member_header(name: str, size: int) -> bytes:
    """The 512 bytes before a member's data. Raises ValueError for a name or size that they cannot hold."""
    name_bytes = name.encode("ascii")
    if not 0 < len(name_bytes) <= 100 or not 0 <= size < 8**11:
        raise ValueError(f"a tar member cannot be called {name!r} and have {size} bytes")
    size_bytes = b"%011o\0" % size
    pattern, checksum = _pattern()
    header = bytearray(pattern)
    header[: len(name_bytes)] = name_bytes
    header[SIZE] = size_bytes
    header[_CHECKSUM] = b"%06o\0 " % (checksum + sum(name_bytes) + sum(size_bytes))
    return bytes(header)


def write_member(out: IO[bytes], name: str, content: bytes) -> int:
    """Write one member, padded to whole blocks; how many bytes that are."""
    padding = -len(content) % tarfile.BLOCKSIZE
    return out.write(b"".join((member_header(name, len(content)), content, bytes(padding))))


def has_exactly(tar: IO[bytes], names: Iterable[str], contents: dict[str, bytes]) -> bool:
    """Whether an open tar holds these members, in this order, as written here, and then its end and nothing else.

    `contents` gets the data of those whose name ends in `.json`. The data of the others is passed over.
    """
    tar.seek(0)
    for name in names:
        header = tar.read(tarfile.BLOCKSIZE)
        try:
            size = int(header[SIZE][:11], 8)
            if header != member_header(name, size):
                return False
        except ValueError:
            return False
        padding = -size % tarfile.BLOCKSIZE
        if name.endswith(".json"):
            content = tar.read(size)
            if len(content) != size:
                return False
            contents[name] = content
            tar.seek(padding, 1)
        else:
            tar.seek(size + padding, 1)
    data_end = tar.tell()
    end = bytes(len(END_OF_ARCHIVE) + -(data_end + len(END_OF_ARCHIVE)) % tarfile.RECORDSIZE)
    return tar.read(len(end) + 1) == end


@functools.lru_cache(maxsize=1)
def _pattern() -> tuple[bytes, int]:
    """A header without name and size as webdataset's TarWriter makes it with `mtime` 0, and the sum of its bytes; the
    checksum's own field counts as spaces, size and name as nothing."""
    info = tarfile.TarInfo("")
    info.mode, info.uname, info.gname = 0o444, "bigdata", "bigdata"
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[NAME] = bytes(100)
    header[SIZE] = bytes(12)
    header[_CHECKSUM] = b" " * 8
    return bytes(header), sum(header)
