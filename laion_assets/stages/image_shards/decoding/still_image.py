"""A PNG or WebP file reduced to what its still image needs, before a decoder sees it.

Decoders' code for animations is young (an animated PNG of 268 bytes ends OpenCV 4.11), and profiles and texts of a PNG
are compressed, so that few bytes become many. None of them changes a pixel that we keep. So a PNG goes to its decoder
with its critical chunks and its transparency alone, which leaves the default image, and an animated WebP with its first
frame. Each file is passed over once, from chunk to chunk. Sources: PNG 1.2 and APNG; RFC 9649 (WebP).
"""

import struct
import zlib

from laion_assets.reasons import Reason, Rejection

ANIMATION_MARKS = {"PNG": (b"acTL", b"fcTL", b"fdAT"), "WEBP": (b"ANMF",)}
"""By format, the types of an animation's chunks."""
_PNG_SIGNATURE_BYTES = 8
_GREY, _DEPTHS = 0, (1, 2, 4, 8, 16)
_LOWER_CASE = 0x20
"""The bit of a PNG chunk type's first letter that says that a decoder may leave the chunk out."""
_RIFF_HEADER_BYTES = 12
_FRAME = b"ANMF"
_ANIMATION_AND_ALPHA = 0x12
"""Flags of a VP8X chunk: no profile and no metadata; and transparency, which a canvas has beside its frame."""


def still_png(data: bytes) -> tuple[bytes, int | None]:
    """Return the PNG with its critical chunks and its transparency, and the transparent sample value of a grey one.

    OpenCV ignores that value (`tRNS` of colour type 0), so it is taken out of the file; None if there is none. It is
    scaled as the decoder scales samples: 1 to 8 bits to 0 to 255. An incomplete chunk stays incomplete. `data` starts
    with a PNG's IHDR.
    """
    kept, kept_since, position = [], 0, _PNG_SIGNATURE_BYTES
    grey, transparent = data[25] == _GREY and data[24] in _DEPTHS, None
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind[0] & _LOWER_CASE and (kind != b"tRNS" or grey):
            if kind == b"tRNS" and transparent is None:
                transparent = _transparent_grey(data, position)
            kept.append(data[kept_since:position])
            kept_since = end
        position = end
        if kind == b"IEND":
            break
    if not kept:
        return data, None
    return b"".join([*kept, data[kept_since:position]]), transparent


def still_webp(data: bytes) -> bytes:
    """Return the WebP as it is, or an animated one with its first frame alone. Raises Rejection for one cut short."""
    if data[12:16] != b"VP8X" or not data[20] & 2:
        return data
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise Rejection(Reason.UNDECODABLE, "the file is cut short")
    chunks, position = [b"VP8X\x0a\0\0\0", bytes((_ANIMATION_AND_ALPHA, 0, 0, 0)), data[24:30]], _RIFF_HEADER_BYTES
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        if kind in (b"ANIM", _FRAME):
            chunks.append(data[position:end])
        position = end
        if kind == _FRAME:
            break
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def _transparent_grey(data: bytes, position: int) -> int | None:
    """The value in the tRNS chunk at `position`, its bits above the image's depth left out; None if damaged."""
    chunk = data[position + 4 : position + 10]
    if data[position : position + 4] != b"\0\0\0\2" or len(data) < position + 14:
        return None
    if data[position + 10 : position + 14] != struct.pack(">I", zlib.crc32(chunk)):
        return None
    most = (1 << data[24]) - 1
    value = int.from_bytes(chunk[4:], "big") & most
    return value if most > 255 else value * 255 // most
