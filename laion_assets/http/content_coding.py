"""Bodies that come compressed although we ask for none: decoded within the same cap and budget."""

import zlib
from collections.abc import Callable

from laion_assets.http.body_budget import FREE_BYTES
from laion_assets.reasons import Reason, Rejection


def decompress(body: bytes, encoding: str, max_bytes: int, take: Callable[[int], None]) -> bytes:
    """The plain body of `encoding` gzip, x-gzip or deflate (zlib's or raw), at most `max_bytes`.

    `take` reserves for a body that grows past FREE_BYTES. Raises Rejection: `too_large`, `short_body`, `bad_encoding`.
    """
    windows = (zlib.MAX_WBITS, -zlib.MAX_WBITS) if encoding == "deflate" else (zlib.MAX_WBITS | 16,)
    for window in windows:
        inflater = zlib.decompressobj(window)
        plain, rest = bytearray(), body
        try:
            while not inflater.eof and len(plain) <= max_bytes:
                if len(plain) >= FREE_BYTES:
                    take(max_bytes)
                piece = inflater.decompress(rest, min(FREE_BYTES, max_bytes + 1 - len(plain)))
                if not piece:
                    break
                plain += piece
                rest = inflater.unconsumed_tail
        except zlib.error:
            continue
        if len(plain) > max_bytes:
            raise too_large(max_bytes)
        if not inflater.eof:
            raise Rejection(Reason.SHORT_BODY, f"the {encoding} stream is cut short")
        return bytes(plain)
    raise Rejection(Reason.BAD_ENCODING, f"the body is not {encoding}")


def too_large(max_bytes: int) -> Rejection:
    """The rejection of a body over the cap."""
    return Rejection(Reason.TOO_LARGE, f"the body is larger than {max_bytes} bytes")
