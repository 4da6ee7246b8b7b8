"""Read format, size and orientation of an image file before a decoder runs.

Only magic bytes and headers are read. The formats are an allow-list: JPEG (ITU T.81), PNG, WebP, GIF, BMP. Other known
formats are recognized for the failure reason only; no parser runs for them.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from laion_assets.reasons import Reason, Rejection

MAX_SEGMENTS = 10_000
"""Maximum segments of a JPEG before its frame header, and maximum chunks of a PNG or WebP searched for orientation."""
MAX_SCANS = 100
"""Maximum scans of a JPEG. Encoders write 1 to 20. Each costs a pass over all blocks, even if it has few bytes."""
_ORIENTATION_TAG = 0x0112
_SNIFFED_BYTES = 1_024
_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_SEQUENTIAL = (0xC0, 0xC1)
"""Frame markers of Huffman-coded sequential images."""
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker other than restart markers, which have no segment. FF 00 is a byte of a scan."""

_OTHER_FORMATS = (
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%PDF", "PDF"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\0\0\1\0", "ICO"),
    (b"\0\0\2\0", "CUR"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"v/1\x01", "OpenEXR"),
    (b"qoif", "QOI"),
    (b"#?RADIANCE", "HDR"),
    (b"DDS ", "DDS"),
    (b"gimp xcf", "XCF"),
    (b"FLIF", "FLIF"),
    (b"BPG\xfb", "BPG"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
)
_ISO_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"hevc")


@dataclass(frozen=True)
class ImageHeader:
    """The header of an image file.

    `format` is `JPEG`, `PNG`, `WEBP`, `GIF` or `BMP`. Width and height are as stored, before `orientation` (EXIF, 1 to
    8) is applied. `sampling` has the (horizontal, vertical) factors of each component of a Huffman-coded 8-bit JPEG.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    sampling: tuple[tuple[int, int], ...] = ()


def read_header(data: bytes) -> ImageHeader:
    """Read the header of an image file.

    Raises Rejection: `not_an_image`, `unsupported_format`, or `undecodable` for a damaged header.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _read_jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _read_png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _read_webp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack_from("<HH", data, 6)
            return ImageHeader("GIF", width, height)
        if data[:2] == b"BM" and len(data) >= 26 and data[6:10] == b"\0\0\0\0":
            return _read_bmp(data)
    except (struct.error, IndexError) as error:
        raise Rejection(Reason.UNDECODABLE, "the header is truncated") from error
    raise _reject_format(data)


def _reject_format(data: bytes) -> Rejection:
    for magic, name in _OTHER_FORMATS:
        if data.startswith(magic):
            return Rejection(Reason.UNSUPPORTED_FORMAT, name)
    if data[4:8] == b"ftyp" and data[8:12] in _ISO_BRANDS:
        return Rejection(Reason.UNSUPPORTED_FORMAT, "AVIF or HEIF")
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7") and data[2:3].isspace():
        return Rejection(Reason.UNSUPPORTED_FORMAT, "PNM")
    start = data[:_SNIFFED_BYTES].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n").lower()
    if b"<svg" in start and start.startswith(b"<"):
        return Rejection(Reason.UNSUPPORTED_FORMAT, "SVG")
    return Rejection(Reason.NOT_AN_IMAGE, "HTML or XML" if start.startswith(b"<") else "no image format is known by it")


def _read_jpeg(data: bytes) -> ImageHeader:
    position, orientation = 2, 1
    for _ in range(MAX_SEGMENTS):
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
            if position < 0:
                break
            continue
        marker = data[position + 1]
        position += 2
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            continue
        if marker in (0xD9, 0xDA):
            break
        length = struct.unpack_from(">H", data, position)[0]
        if _is_frame(marker):
            height, width = struct.unpack_from(">HH", data, position + 3)
            if width == 0 or height == 0:
                raise Rejection(Reason.UNDECODABLE, "the header declares no size")
            return ImageHeader("JPEG", width, height, orientation, _read_sampling(data, marker, position))
        if marker == 0xE1 and data[position + 2 : position + 8] == b"Exif\0\0" and orientation == 1:
            orientation = read_orientation(data[position + 8 : position + length])
        position += max(length, 2)
    raise Rejection(Reason.UNDECODABLE, "a JPEG without a frame header")


def check_scans(data: bytes) -> None:
    """Check the number of scans of a JPEG. Raises Rejection for more than MAX_SCANS.

    A decoder reads only one scan of a sequential image if the first scan has all components. So most files are read
    only up to their first scan. Of the others, most have few bytes that could start a scan (counting them takes 0.06 ms
    for 60 kB), and their later segments are not read.
    """
    frame, components, scans = 0, 0, 0
    for marker, position in _find_segments(data):
        if marker == _SCAN:
            scans += 1
            if scans == 1:
                is_single = frame in _SEQUENTIAL and data[position + 2 : position + 3] == bytes((components,))
                if is_single or data.count(bytes((0xFF, _SCAN))) <= MAX_SCANS:
                    return
            if scans > MAX_SCANS:
                raise Rejection(Reason.UNDECODABLE, f"more than {MAX_SCANS} scans")
        elif _is_frame(marker) and not frame:
            frame, components = marker, int.from_bytes(data[position + 7 : position + 8], "big")


def _find_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the markers of a JPEG up to its end, and the position of the length field of each."""
    position = 2
    while found := _MARKER.search(data, position):
        position, marker = found.end(), data[found.end() - 1]
        if marker == _END_OF_IMAGE:
            return
        if marker not in (0x01, 0xD8):
            yield marker, position
            position += int.from_bytes(data[position : position + 2], "big")


def _is_frame(marker: int) -> bool:
    return 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)


def _read_sampling(data: bytes, marker: int, position: int) -> tuple[tuple[int, int], ...]:
    """Read the factors of the frame header (ITU T.81, B.2.2) at `position`; empty unless it is 8-bit Huffman DCT."""
    if marker > 0xC2 or data[position + 2] != 8:
        return ()
    components = data[position + 8 : position + 8 + 3 * data[position + 7]]
    return tuple((factors >> 4, factors & 15) for factors in components[1::3])


def _read_png(data: bytes) -> ImageHeader:
    if data[12:16] != b"IHDR":
        raise Rejection(Reason.UNDECODABLE, "a PNG without IHDR")
    width, height, _, _ = struct.unpack_from(">IIBB", data, 16)
    position, orientation = 8, 1
    for _ in range(MAX_SEGMENTS):
        if position + 12 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            orientation = read_orientation(data[position + 8 : position + 8 + length])
        position += 12 + length
    return ImageHeader("PNG", width, height, orientation)


def _read_webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WEBP", width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return ImageHeader("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind != b"VP8X":
        raise Rejection(Reason.UNDECODABLE, "a WebP without a frame header")
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    if len(data) < 30:
        raise IndexError
    position, orientation = 12, 1
    for _ in range(MAX_SEGMENTS):
        if position + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            body = data[position + 8 : position + 8 + length]
            orientation = read_orientation(body.removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return ImageHeader("WEBP", width, height, orientation)


def _read_bmp(data: bytes) -> ImageHeader:
    header_bytes = struct.unpack_from("<I", data, 14)[0]
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", data, 18)
    return ImageHeader("BMP", abs(width), abs(height))


def read_orientation(exif: bytes) -> int:
    """Return the Orientation tag (1 to 8) in the first directory of a TIFF block; 1 if it is missing or damaged."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(exif[:2]))
    if order is None:
        return 1
    try:
        directory = struct.unpack_from(f"{order}I", exif, 4)[0]
        entries = struct.unpack_from(f"{order}H", exif, directory)[0]
        for index in range(min(entries, 1_000)):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, directory + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                value = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", exif, directory + 10 + 12 * index)[0]
                return value if 1 <= value <= 8 and count == 1 else 1
    except struct.error:
        pass
    return 1
