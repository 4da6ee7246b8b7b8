"""Images as Pillow decodes them."""

import io
from typing import Any


def decode_image(content: bytes | memoryview) -> Any:
    """Decode an image: an RGB Pillow image, or None if the bytes do not decode."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and more.
        return None
