"""Write and check a shard's tar member by member, with the bytes of webdataset's TarWriter for an integer `mtime`.

(For a fractional `mtime`, as img2dataset uses, TarWriter adds a pax header of two blocks before each member.) POSIX
ustar headers differ only in name, size and checksum, so one header built by `tarfile` is the template for all. This
saves a TarInfo per member. Reading compares whole headers with the expected ones.
"""

import functools
import tarfile
from collections.abc import Iterable
from typing import IO

END_OF_ARCHIVE = bytes(2 * tarfile.BLOCKSIZE)
NAME, SIZE, _CHECKSUM = slice(0, 100), slice(124, 136), slice(148, 156)


def member_header(name: str, size: int) -> bytes:
    """Return the 512-byte header of a member. Raises ValueError for a name or size that does not fit into it."""
    name_bytes = name.encode("ascii")
    if not 0 < len(name_bytes) <= 100 or not 0 <= size < 8**11:
        raise ValueError(f"a tar header cannot hold the name {name!r} with {size} bytes")
    size_bytes = b"%011o\0" % size
    template, checksum = _header_template()
    header = bytearray(template)
    header[: len(name_bytes)] = name_bytes
    header[SIZE] = size_bytes
    header[_CHECKSUM] = b"%06o\0 " % (checksum + sum(name_bytes) + sum(size_bytes))
    return bytes(header)


def write_member(out: IO[bytes], name: str, content: bytes) -> int:
    """Write one member, padded to whole blocks. Return the number of bytes."""
    padding = -len(content) % tarfile.BLOCKSIZE
    return out.write(b"".join((member_header(name, len(content)), content, bytes(padding))))


def find_members(tar: IO[bytes], names: Iterable[str], contents: dict[str, bytes]) -> list[tuple[int, int]] | None:
    """Return the offset and size of the data of each member, in bytes, if an open tar has exactly these members.

    None unless they are in this order and as `write_member` writes them, and the tar has a correct end. Adds the data
    of members whose name ends in `.json` to `contents`. Skips the data of other members.
    """
    offset = tar.seek(0)
    places: list[tuple[int, int]] = []
    for name in names:
        header = tar.read(tarfile.BLOCKSIZE)
        try:
            size = int(header[SIZE][:11], 8)
            if header != member_header(name, size):
                return None
        except ValueError:
            return None
        padding = -size % tarfile.BLOCKSIZE
        places.append((offset + tarfile.BLOCKSIZE, size))
        offset += tarfile.BLOCKSIZE + size + padding
        if name.endswith(".json"):
            content = tar.read(size)
            if len(content) != size:
                return None
            contents[name] = content
            tar.seek(padding, 1)
        else:
            tar.seek(size + padding, 1)
    data_end = tar.tell()
    end = bytes(len(END_OF_ARCHIVE) + -(data_end + len(END_OF_ARCHIVE)) % tarfile.RECORDSIZE)
    return places if tar.read(len(end) + 1) == end else None


@functools.lru_cache(maxsize=1)
def _header_template() -> tuple[bytes, int]:
    """Return webdataset's header with `mtime` 0 and empty name and size, and the sum of its bytes.

    In the sum the checksum field counts as spaces.
    """
    info = tarfile.TarInfo("")
    info.mode, info.uname, info.gname = 0o444, "bigdata", "bigdata"
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    header[NAME] = bytes(100)
    header[SIZE] = bytes(12)
    header[_CHECKSUM] = b" " * 8
    return bytes(header), sum(header)
