"""A strip of images from a shard, for the metadata of its partition in the Dagster UI."""

import io
import json
import tarfile
from collections.abc import Iterator

from laion_assets.store.store import Store

SAFE_TAG = "UNLIKELY"
"""The NSFW tag of the images that are shown. UNSURE, NSFW and untagged images are never shown."""
_TILE_PX = 72
_TILES = 10


def shard_contact_sheet(store: Store, tar_path: str, tiles: int = _TILES) -> bytes:
    """Draw the first images tagged UNLIKELY of a shard in a row: a JPEG of about 10 kB, empty if there are none."""
    from PIL import Image

    images = []
    for content, tag in _read_samples(store, tar_path):
        if tag == SAFE_TAG:
            with Image.open(io.BytesIO(content)) as opened:
                images.append(opened.convert("RGB").resize((_TILE_PX, _TILE_PX)))
        if len(images) == tiles:
            break
    if not images:
        return b""
    sheet = Image.new("RGB", (_TILE_PX * len(images), _TILE_PX), "white")
    for position, image in enumerate(images):
        sheet.paste(image, (position * _TILE_PX, 0))
    output = io.BytesIO()
    sheet.save(output, "JPEG", quality=80)
    return output.getvalue()


def _read_samples(store: Store, tar_path: str) -> Iterator[tuple[bytes, str | None]]:
    """Yield image and NSFW tag of each sample; the members of a sample are consecutive."""
    with store.open(tar_path) as file, tarfile.open(fileobj=file, mode="r|") as tar:
        content: dict[str, bytes] = {}
        key = ""
        for member in tar:
            name, _, suffix = member.name.partition(".")
            if name != key:
                key, content = name, {}
            extracted = tar.extractfile(member)
            content[suffix] = extracted.read() if extracted else b""
            if len(content) == 3:
                tag = json.loads(content.pop("json")).get("NSFW")
                content.pop("txt", None)
                yield next(iter(content.values())), tag
