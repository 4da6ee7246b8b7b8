"""Which EXIF tags may go into the column `exif`: technical ones; never place, time, device, owner or comment."""

import json

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


def technical_exif(exif: str | None) -> str | None:
    """img2dataset's exif JSON with the technical tags only, in the order of their names."""
    if exif is None or exif == "{}":
        return exif
    tags = json.loads(exif)
    return json.dumps(
        {name: tags[name] for name in sorted(tags) if name in TECHNICAL_TAGS and len(tags[name]) <= MAX_VALUE_CHARS}
    )
