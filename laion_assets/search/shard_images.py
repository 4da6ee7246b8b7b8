"""A strip of images from a shard, for the metadata of its partition in the Dagster UI."""

import io
import itertools
import json
from collections.abc import Iterator

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.search.results.safety import may_be_published
from laion_assets.search.shard_samples import ShardSamples, read_samples
from laion_assets.store.store import Store

_TILE_PX = 72
_TILES = 10


def shard_contact_sheet(store: Store, tar_path: str, tiles: int = _TILES, *, show_untagged: bool = False) -> bytes:
    """Draw the first images of a shard that may be published in a row: a JPEG of about 10 kB, empty if there are none.

    These are tagged UNLIKELY, or also without a tag.
    """
    from PIL import Image

    images = []

    def read(samples: ShardSamples) -> list[bytes]:
        return list(itertools.islice(_safe_images(samples, show_untagged), tiles))

    for content in read_samples(store, tar_path, read):
        with Image.open(io.BytesIO(content)) as opened:
            images.append(opened.convert("RGB").resize((_TILE_PX, _TILE_PX)))
    if not images:
        return b""
    sheet = Image.new("RGB", (_TILE_PX * len(images), _TILE_PX), "white")
    for position, image in enumerate(images):
        sheet.paste(image, (position * _TILE_PX, 0))
    output = io.BytesIO()
    sheet.save(output, "JPEG", quality=80)
    return output.getvalue()


def _safe_images(samples: ShardSamples, show_untagged: bool) -> Iterator[bytes]:
    """Yield the images that may be published. Of the others, only the json is read."""
    for sample in samples:
        members = {member.extension: member for member in sample}
        image = next((members[suffix] for suffix in ENCODE_FORMATS if suffix in members), None)
        if image is None or "json" not in members:
            continue
        if may_be_published(json.loads(samples.read(members["json"])), show_untagged):
            yield samples.read(image)
