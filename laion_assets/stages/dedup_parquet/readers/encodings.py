"""Text files in other encodings than UTF-8, converted to UTF-8 block by block, without the loss of a row."""

import codecs
from collections.abc import Iterator

from laion_assets.stages.dedup_parquet.readers.csv_bytes import BrokenStreamError

_ERRORS = "laion_assets.undecodable"
_UNDECODABLE = "\udcff"
"""The character that becomes the byte FF, which UTF-8 does not have (PEP 383)."""


def _replace_undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _UNDECODABLE, error.end


codecs.register_error(_ERRORS, _replace_undecodable)


def to_utf8(blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Convert blocks of text to UTF-8. Raises like `blocks`, after all characters before the damage.

    Bytes that are not a character of the encoding become a byte that UTF-8 does not have, so that the readers reject
    the rows with such bytes, as `invalid_utf8`, and no others.
    """
    if encoding == "utf-8":
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(encoding)(_ERRORS)
    try:
        for block in blocks:
            if found := _encode(decoder.decode(block)):
                yield found
    except BrokenStreamError:
        if found := _encode(decoder.decode(b"", True)):
            yield found
        raise
    if found := _encode(decoder.decode(b"", True)):
        yield found


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
