"""Decode the Content-Encoding of bodies that were requested without one (`Accept-Encoding: identity`).

gzip and deflate are decoded. Unknown labels (`UTF-8`, `none`, `binary`, `aws-chunked`) are ignored. A label is wrong
where the body is plain, and then ignored, as in browsers. Other codings (br, zstd, compress) are refused unless the
body is plain.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from itertools import chain

from laion_assets.http.memory_budget import FREE_BYTES
from laion_assets.http.messages.response_headers import ResponseHeaders
from laion_assets.reasons import Reason, Rejection

_GZIP, _DEFLATE = "gzip", "deflate"
_DECODED = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _DEFLATE}
_REFUSED = frozenset(("br", "zstd", "compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip"))
"""The other codings of IANA's registry."""
_GZIP_MAGIC = b"\x1f\x8b"
_FREE_MEMBERS = 1_000
_MEMBER_BYTES = 1_024
"""Minimum average size of more than 1,000 gzip members: an empty member has 20 bytes and uses much CPU."""
_PIECE_BYTES = 1 << 18
_SLICE_BYTES = 1 << 14
_SNIFFED_BYTES = 512
_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\0\0\x01\0", b"PAR1",
    b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff",
)  # fmt: skip
"""Of images, parquet, archives and byte order marks."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


def content_coding(head: ResponseHeaders) -> str:
    """Return the coding to decode, empty if there is none. Raises Rejection `bad_encoding` for several at once."""
    if not head.all("content-encoding"):
        return ""
    codings = [_DECODED.get(label, label) for label in head.tokens("content-encoding")]
    known = [label for label in codings if label in _DECODED or label in _REFUSED]
    if len(known) > 1:
        raise Rejection(Reason.BAD_ENCODING, "several content encodings that were not requested")
    return known[0] if known else ""


def is_plain(start: bytes) -> bool:
    """Return whether a body's first bytes are those of a known file format or of text, not of a compressed stream."""
    start = start[:_SNIFFED_BYTES]
    return start.startswith(_SIGNATURES) or _CONTROL.search(start) is None


class StreamDecoder:
    """Decodes a body in pieces. A returned piece has at most 256 KiB, for any compression ratio."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._start: bytes | None = b""
        self._inflater: zlib._Decompress | None = None
        self._members = self._plain_bytes = 0
        self._ended = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Decode a piece. Raises Rejection `bad_encoding` for damaged data and for unsupported codings."""
        if self._start is not None:
            self._start += piece
            if len(self._start) < _SNIFFED_BYTES:
                return
            piece = self._choose()
        yield from self._decode(piece)

    def end(self) -> Iterator[bytes]:
        """Decode the rest at the body's end. Raises Rejection `short_body` for a truncated stream."""
        if self._start is not None:
            yield from self._decode(self._choose())
        if self._inflater is not None and not self._inflater.eof:
            raise Rejection(Reason.SHORT_BODY, f"the {self._coding} stream is truncated")

    def _decode(self, piece: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            yield piece
            return
        try:
            # In slices, because zlib returns a copy of all unused input.
            for start in range(0, len(piece), _SLICE_BYTES):
                yield from self._inflate(self._inflater, piece[start : start + _SLICE_BYTES])
        except zlib.error as error:
            raise Rejection(Reason.BAD_ENCODING, f"the body is not {self._coding}") from error

    def _inflate(self, inflater: "zlib._Decompress", piece: bytes) -> Iterator[bytes]:
        while piece and not self._ended:
            if inflater.eof:
                # Consecutive gzip members are one stream. Other data after the end is ignored, as in browsers.
                if self._coding != _GZIP or piece[0] != _GZIP_MAGIC[0]:
                    self._ended = True
                    return
                self._members += 1
                if self._members > _FREE_MEMBERS + self._plain_bytes // _MEMBER_BYTES:
                    raise Rejection(Reason.BAD_ENCODING, f"{self._members} gzip members that are almost empty")
                self._inflater = inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
            plain = inflater.decompress(piece, _PIECE_BYTES)
            self._plain_bytes += len(plain)
            if plain:
                yield plain
            piece = inflater.unconsumed_tail or inflater.unused_data

    def _choose(self) -> bytes:
        """Choose how to decode by the first bytes, and return them."""
        start, self._start = self._start or b"", None
        if self._coding == _GZIP:
            if start.startswith(_GZIP_MAGIC):
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif self._coding == _DEFLATE and _has_zlib_header(start):
            self._inflater = zlib.decompressobj()
        elif not is_plain(start):
            if self._coding != _DEFLATE:
                raise Rejection(Reason.BAD_ENCODING, f"the content encoding {self._coding} was not requested")
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return start


def decompress(body: bytes, coding: str, max_bytes: int, reserve: Callable[[int], None]) -> bytes:
    """Decode a body, up to `max_bytes`.

    `reserve` is called with the maximum size for a body that grows past FREE_BYTES.

    Raises Rejection: `too_large`, `short_body`, `bad_encoding`.
    """
    decoder = StreamDecoder(coding)
    plain = bytearray()
    for piece in chain(decoder.feed(body), decoder.end()):
        if len(plain) + len(piece) > max_bytes:
            raise too_large(max_bytes)
        if len(plain) + len(piece) > FREE_BYTES:
            reserve(max_bytes)
        plain += piece
    return bytes(plain)


def too_large(max_bytes: int) -> Rejection:
    """Return the rejection of a body over the limit."""
    return Rejection(Reason.TOO_LARGE, f"the body is larger than {max_bytes} bytes")


def _has_zlib_header(start: bytes) -> bool:
    return len(start) >= 2 and start[0] & 0x0F == 8 and int.from_bytes(start[:2], "big") % 31 == 0
