"""Which JPEGs are decoded at half size or less.

libjpeg can leave out the high frequencies of each block and give a picture of 1/2, 1/4 or 1/8 of the size for less
work (its `scale_denom`); the resize that follows reads 4 to 64 times fewer pixels. What the filter `area` makes of it
differs little where enough pixels remain; other filters read single pixels of the full picture and would give another.
"""

from laion_assets.stages.image_shards.decoding.image_header import ImageHeader

MARGINS = ((8, 8.0), (4, 4.0), (2, 2.5))
"""(denominator, how many times the target size has to remain). At twice the target size a photograph's half came out at
37.8 dB of img2dataset's picture, at 2.3 times at 38.1, at 3.2 times at 39.9, both as JPEG of quality 95."""


def denominator(header: ImageHeader, width: int, height: int) -> int:
    """What a JPEG's size is divided by when it is decoded to become `width` x `height` (as stored): 1, 2, 4 or 8."""
    if not _halves_evenly(header) or min(width, height) < 1:
        return 1
    remaining = min(header.width / width, header.height / height)
    return next((divisor for divisor, margin in MARGINS if remaining >= divisor * margin), 1)


def _halves_evenly(header: ImageHeader) -> bool:
    """Grey, 4:4:4 and 4:2:0. Others (4:2:2) have chroma that libjpeg would enlarge after it has scaled it down."""
    sampling = header.sampling
    if len(sampling) == 1:
        return True
    return len(sampling) == 3 and sampling[1] == sampling[2] and sampling[0] in (
        sampling[1], (2 * sampling[1][0], 2 * sampling[1][1])
    )  # fmt: skip
