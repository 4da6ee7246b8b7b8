"""Delta-encoded values in a parquet page: a page may claim more lengths than it has values, and readers believe it.

pyarrow allocates 4 bytes for each length that the page's own list claims, up to 2 ** 31 of them, whatever the page
header says; a list of zeros takes some bytes. github.com/apache/parquet-format/blob/master/Encodings.md
"""

import pyarrow as pa

from laion_assets.metadata.thrift_compact import CompactReader, ThriftError

DELTA_NUMBERS, DELTA_LENGTH, DELTA_BYTES = 5, 6, 7
"""Encodings: numbers as deltas; lengths so, then all strings; prefix lengths, lengths, the rest of each string. The
last is refused."""
MAX_BLOCK_VALUES = 1 << 16
"""Values of a block of deltas; writers use 128. The reader allocates by it."""
_LEVELS_HEAD_BYTES = 4


def delta_fault(body: bytes, values: int) -> str | None:
    """What is wrong with the deltas of a page of `values` numbers or strings, None if they may be decoded."""
    if not body:
        return None
    reader = CompactReader(body)
    try:
        claimed = _skip_lengths(reader, values)
        if claimed > values:
            return f"claims {claimed:,} lengths for {values:,} values"
    except ThriftError as error:
        return f"has lengths that cannot be read: {error}"
    return None


def decompress(body: bytes, codec: str, size: int) -> bytes:
    """A page's content of `size` bytes. Raises ThriftError for what cannot be decompressed so, and for LZ4.

    LZ4 names two formats that pyarrow tries in turn, so that another content may be found here than there.
    """
    if codec == "UNCOMPRESSED":
        return body
    if codec == "LZ4":
        raise ThriftError("is compressed by LZ4, which is not supported with delta-encoded strings")
    try:
        return bytes(pa.Codec(codec.lower()).decompress(body, size, asbytes=True))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ThriftError(f"a page cannot be decompressed: {error}") from error


def without_levels(page: bytes, levels: int, is_nullable: bool) -> bytes:
    """The values of a page; `levels` is -1 if those of a nullable column precede the values, with their length."""
    if levels >= 0 or not is_nullable:
        return page
    return page[_LEVELS_HEAD_BYTES + int.from_bytes(page[:_LEVELS_HEAD_BYTES], "little") :]


def _skip_lengths(reader: CompactReader, values: int) -> int:
    """Read over a DELTA_BINARY_PACKED list; returns the number of values that it claims, at once if there are more."""
    block, miniblocks, claimed = reader.varint(), reader.varint(), reader.varint()
    if claimed > values:
        return claimed
    reader.varint()
    if not 0 < block <= MAX_BLOCK_VALUES or not miniblocks or block % miniblocks or block // miniblocks % 32:
        raise ThriftError(f"blocks of {block} values in {miniblocks} parts")
    of_one, rest = block // miniblocks, claimed - 1
    while rest > 0:
        reader.varint()
        widths = reader.data[reader.position : reader.position + miniblocks]
        reader.position += miniblocks
        if len(widths) < miniblocks:
            raise ThriftError("the data end inside a block")
        for width in widths:
            if rest > 0:
                reader.position += width * of_one // 8
                rest -= of_one
    return claimed
