"""The column `exif`: an image file's EXIF tags as exifread names them, of which only technical ones may go in; never
place, time, device, owner or comment. Decoder-side: parses strangers' bytes, within bounds of its own."""

import io
import json
import logging

import exifread

TECHNICAL_TAGS = frozenset(
    {
        "Image Orientation",
        "Image XResolution",
        "Image YResolution",
        "Image ResolutionUnit",
        "Image YCbCrPositioning",
        "Image BitsPerSample",
        "Image Compression",
        "Image ImageLength",
        "Image ImageWidth",
        "Image PhotometricInterpretation",
        "Image SamplesPerPixel",
        "EXIF ColorSpace",
        "EXIF ComponentsConfiguration",
        "EXIF CompressedBitsPerPixel",
        "EXIF ExifImageLength",
        "EXIF ExifImageWidth",
        "EXIF ExifVersion",
        "EXIF FlashPixVersion",
    }
)
"""By exifread's names, which img2dataset stores."""
MAX_VALUE_CHARS = 64
"""No technical tag is longer; a longer value is something else in its place."""

MAX_READS = 30_000
"""Reads of one file. exifread reads each number of each tag by itself: 100 tags, five of 500 bytes, take 3,000."""
MAX_BYTES = 1 << 20
"""Bytes read of one file, those read again counted again: a JPEG's EXIF has 64 KiB at most."""
MAX_JSON_CHARS = 1 << 16
"""Of the column's value, which a worker holds for each row of a shard."""

_LOOKED_AT_BYTES = 1 << 18
"""A JPEG's EXIF is in one of its first segments, of 64 KiB at most each."""

logging.getLogger("exifread").setLevel(logging.CRITICAL)


def exif_json(body: bytes, personal: bool) -> str | None:
    """Return the JSON of an image file's EXIF tags, as img2dataset writes it.

    `{}` if there are none; None if they cannot be read, or not within the bounds above. Only technical tags, in the
    order of their names, unless `personal` ones are asked for, too.
    """
    if body[:2] == b"\xff\xd8":
        if b"Exif" not in body[:_LOOKED_AT_BYTES]:
            return "{}"  # as most, and exifread takes its time to find that out
        if body[4:12] == b"ftypheic":
            return None  # what exifread takes for a HEIF file
    elif body[:4] != b"RIFF":
        return "{}"  # exifread knows none in these formats
    try:
        found = exifread.process_file(_BoundedFile(body), details=False)
        tags = {name: str(value).strip() for name, value in found.items() if value is not None}
    except Exception:  # exifread trusts what a file says of itself
        return None
    text = json.dumps(tags if personal else technical(tags))
    return text if len(text) <= MAX_JSON_CHARS else None


def technical(tags: dict[str, str]) -> dict[str, str]:
    """The technical tags among these."""
    return {name: tags[name] for name in sorted(tags) if name in TECHNICAL_TAGS and len(tags[name]) <= MAX_VALUE_CHARS}


class _BoundedFile(io.BytesIO):
    """A file of which no more than MAX_READS and MAX_BYTES are read. Each loop of exifread reads, so that it ends."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._reads_left, self._bytes_left = MAX_READS, MAX_BYTES

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self._reads_left -= 1
        self._bytes_left -= len(content)
        if self._reads_left < 0 or self._bytes_left < 0:
            raise ValueError("the EXIF of this file takes too many reads")
        return content
