"""Choose the scale at which a JPEG is decoded: full size, 1/2, 1/4 or 1/8.

libjpeg can skip the high frequencies of each block and decode a smaller image with less work (its `scale_denom`). The
resize that follows then reads 4 to 64 times fewer pixels. With the filter `area` the result differs little as long as
enough pixels remain. Other filters sample single pixels of the full image, so their result would differ more.
"""

from laion_assets.stages.image_shards.decoding.image_header import ImageHeader

MARGINS = ((8, 8.0), (4, 4.0), (2, 2.5))
"""(denominator, minimum ratio of the scaled size to the target size). PSNR of a photograph decoded at half size against
img2dataset's image, both as JPEG of quality 95: 37.8 dB at a ratio of 2, 38.1 at 2.3, 39.9 at 3.2."""


def choose_denominator(header: ImageHeader, width: int, height: int) -> int:
    """Return 1, 2, 4 or 8: the divisor of a JPEG's size when it is resized to `width` x `height` (as stored)."""
    if not _is_evenly_scalable(header) or min(width, height) < 1:
        return 1
    remaining = min(header.width / width, header.height / height)
    return next((divisor for divisor, margin in MARGINS if remaining >= divisor * margin), 1)


def _is_evenly_scalable(header: ImageHeader) -> bool:
    """True for grey, 4:4:4 and 4:2:0. In others (4:2:2) libjpeg would scale the chroma down and then enlarge it."""
    sampling = header.sampling
    if len(sampling) == 1:
        return True
    return len(sampling) == 3 and sampling[1] == sampling[2] and sampling[0] in (
        sampling[1], (2 * sampling[1][0], 2 * sampling[1][1])
    )  # fmt: skip
