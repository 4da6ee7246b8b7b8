"""The column `exif`: an image file's EXIF tags as exifread names them, of which only technical ones may go in; never
place, time, device, owner or comment."""

import io
import json
import logging

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

_LOOKED_AT_BYTES = 1 << 18
"""A JPEG's EXIF stands in one of its first segments, of 64 KiB at most each."""

logging.getLogger("exifread").setLevel(logging.CRITICAL)  # it warns of every PNG


def exif_json(body: bytes, personal: bool) -> str | None:
    """The JSON of an image file's EXIF tags, as img2dataset writes it; `{}` where there are none, None where they
    cannot be read. Only technical ones, in the order of their names, unless `personal` ones are wanted, too."""
    if body[:2] == b"\xff\xd8" and b"Exif" not in body[:_LOOKED_AT_BYTES]:
        return "{}"  # as most, and exifread takes its time to find that out
    import exifread

    try:
        found = exifread.process_file(io.BytesIO(body), details=False)
        tags = {name: str(value).strip() for name, value in found.items() if value is not None}
    except Exception:  # exifread trusts what a file says of itself
        return None
    return json.dumps(tags if personal else technical(tags))


def technical(tags: dict[str, str]) -> dict[str, str]:
    """The technical tags among these."""
    return {name: tags[name] for name in sorted(tags) if name in TECHNICAL_TAGS and len(tags[name]) <= MAX_VALUE_CHARS}
