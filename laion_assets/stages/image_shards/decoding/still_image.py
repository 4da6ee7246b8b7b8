"""Reduce a PNG or WebP file to its still image, before it is decoded.

Animation code in decoders is young (an animated PNG of 268 bytes crashes OpenCV 4.11). Profiles and texts of a PNG are
compressed, so a few bytes can expand to many. Neither changes a pixel that we keep. So only the critical chunks and the
transparency of a PNG are decoded, which is its default image, and only the first frame of an animated WebP.
Each file is read once, chunk by chunk. Sources: PNG 1.2 and APNG; RFC 9649 (WebP).
"""

import struct
import zlib

from laion_assets.reasons import Reason, Rejection

ANIMATION_MARKS = {"PNG": (b"acTL", b"fcTL", b"fdAT"), "WEBP": (b"ANMF",)}
"""Chunk types of animations, by format."""
_PNG_SIGNATURE_BYTES = 8
_GREY, _DEPTHS = 0, (1, 2, 4, 8, 16)
_LOWER_CASE = 0x20
"""The bit in the first letter of a PNG chunk type that marks the chunk as optional for a decoder."""
_RIFF_HEADER_BYTES = 12
_FRAME = b"ANMF"
_ANIMATION_AND_ALPHA = 0x12
"""Flags of a VP8X chunk without profile and metadata. The alpha flag is set because a canvas may be transparent."""


def still_png(data: bytes) -> tuple[bytes, int | None]:
    """Return the PNG with only its critical chunks and its transparency, and a grey PNG's transparent sample value.

    OpenCV ignores that value (`tRNS` of colour type 0), so its chunk is removed from the file. The value is None if
    there is none. It is scaled as the decoder scales samples: 1 to 8 bits to 0 to 255. An incomplete chunk stays
    incomplete. `data` starts with a PNG signature and IHDR.
    """
    kept, kept_since, position = [], 0, _PNG_SIGNATURE_BYTES
    grey, transparent = data[25] == _GREY and data[24] in _DEPTHS, None
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind[0] & _LOWER_CASE and (kind != b"tRNS" or grey):
            if kind == b"tRNS" and transparent is None:
                transparent = _read_transparent_grey(data, position)
            kept.append(data[kept_since:position])
            kept_since = end
        position = end
        if kind == b"IEND":
            break
    if not kept:
        return data, None
    return b"".join([*kept, data[kept_since:position]]), transparent


def still_webp(data: bytes) -> bytes:
    """Return the WebP, an animated one with only its first frame. Raises Rejection for a truncated one."""
    if data[12:16] != b"VP8X" or not data[20] & 2:
        return data
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise Rejection(Reason.UNDECODABLE, "the file is truncated")
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


def _read_transparent_grey(data: bytes, position: int) -> int | None:
    """Return the value in the tRNS chunk at `position`, masked to the bit depth; None if the chunk is damaged."""
    chunk = data[position + 4 : position + 10]
    if data[position : position + 4] != b"\0\0\0\2" or len(data) < position + 14:
        return None
    if data[position + 10 : position + 14] != struct.pack(">I", zlib.crc32(chunk)):
        return None
    most = (1 << data[24]) - 1
    value = int.from_bytes(chunk[4:], "big") & most
    return value if most > 255 else value * 255 // most
