"""The character encoding of a text file, from its first bytes."""

import codecs

from laion_assets.errors import SourceError
from laion_assets.stages.dedup_parquet.settings import ENCODINGS

_GUESSED_BYTES = 64 << 10
"""Bytes of lines with other characters than ASCII that are looked at."""
_MAX_INVALID_SHARE = 0.02
"""Share of lines with invalid UTF-8 up to which a file counts as UTF-8 with damaged rows."""
_NUL_SHARE = 0.2
"""Share of NUL bytes at even or odd positions from which a file counts as UTF-16."""

_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "hz": "gb18030"}
"""Encodings that are read as a larger one."""


def detect_encoding(data: bytes, name: str) -> str:
    """Return the encoding of a text by its byte order mark, else UTF-8 if it is valid, else the likeliest one.

    Raises SourceError naming the file if the encoding is unknown.
    """
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = data[:_GUESSED_BYTES]
    if head[1::2].count(0) > _NUL_SHARE * len(head[1::2]):
        return "utf-16-le"
    if head[0::2].count(0) > _NUL_SHARE * len(head[0::2]):
        return "utf-16-be"
    lines = [line for line in data.split(b"\n") if not line.isascii()]
    invalid = [line for line in lines if not _is_utf8(line)]
    if len(invalid) <= _MAX_INVALID_SHARE * max(data.count(b"\n"), 1):
        return "utf-8"
    from charset_normalizer import from_bytes

    known = {codecs.lookup(encoding).name: encoding for encoding in ENCODINGS} | _SUPERSETS
    guesses = from_bytes(b"\n".join(invalid)[:_GUESSED_BYTES])
    names = [codecs.lookup(name).name for guess in guesses for name in (guess.encoding, *guess.could_be_from_charset)]
    found = [known[name] for name in names if name in known]
    if not found:
        raise SourceError(
            f"Unknown character encoding of {name}: {len(invalid):,} of its first lines are not UTF-8. Set it with "
            f"--encoding, one of {', '.join(ENCODINGS)}."
        )
    return found[0]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
