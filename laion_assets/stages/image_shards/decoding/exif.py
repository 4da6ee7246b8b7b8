"""The column `exif`: the technical EXIF tags of an image file, by exifread's names.

Location, time, device, owner and comments are left out. Runs in the decoder process: it parses untrusted bytes, with
limits on the number of reads and bytes.
"""

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
"""Tags by exifread's names, as img2dataset stores them."""
MAX_VALUE_CHARS = 64
"""Maximum length of a technical tag's value. A longer value is something else."""

MAX_READS = 30_000
"""Maximum reads per file. exifread reads each number of a tag separately: 100 tags, five of 500 bytes, take 3,000."""
MAX_BYTES = 1 << 20
"""Maximum bytes read per file, repeated reads included. A JPEG's EXIF has at most 64 KiB."""
MAX_JSON_CHARS = 1 << 16
"""Maximum length of the column's value, which a worker keeps for each row of a shard."""

_LOOKED_AT_BYTES = 1 << 18
"""Bytes searched for EXIF. It is in one of a JPEG's first segments, of at most 64 KiB each."""

logging.getLogger("exifread").setLevel(logging.CRITICAL)


def exif_json(body: bytes, personal: bool) -> str | None:
    """Return the JSON of an image file's EXIF tags, as img2dataset writes it.

    Returns `{}` if there are none, and None if they cannot be read within the limits above. Only technical tags, sorted
    by name, unless `personal` tags are requested too.
    """
    if body[:2] == b"\xff\xd8":
        if b"Exif" not in body[:_LOOKED_AT_BYTES]:
            return "{}"  # most files; exifread would take long to find that out
        if body[4:12] == b"ftypheic":
            return None  # exifread would parse it as a HEIF file
    elif body[:4] != b"RIFF":
        return "{}"  # exifread does not support EXIF in other formats
    try:
        found = exifread.process_file(_BoundedFile(body), details=False)
        tags = {name: str(value).strip() for name, value in found.items() if value is not None}
    except Exception:  # exifread trusts the values in a file
        return None
    text = json.dumps(tags if personal else technical(tags))
    return text if len(text) <= MAX_JSON_CHARS else None


def technical(tags: dict[str, str]) -> dict[str, str]:
    """Return the technical tags among these."""
    return {name: tags[name] for name in sorted(tags) if name in TECHNICAL_TAGS and len(tags[name]) <= MAX_VALUE_CHARS}


class _BoundedFile(io.BytesIO):
    """A file with at most MAX_READS reads and MAX_BYTES bytes. Every loop of exifread reads, so each of them ends."""

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
