"""A strip of pictures from a shard, for the metadata of its partition in the Dagster page."""

import io
import json
import tarfile
from collections.abc import Iterator

from laion_assets.store.store import Store

SAFE_TAG = "UNLIKELY"
"""Only pictures that the crawl tagged so are shown; UNSURE, NSFW and untagged ones never are."""
_TILE_PX = 72
_TILES = 10


def shard_contact_sheet(store: Store, tar_path: str, tiles: int = _TILES) -> bytes:
    """The first pictures of a shard that are tagged UNLIKELY, side by side: a JPEG of about 10 kB, empty if none is."""
    from PIL import Image

    pictures = []
    for content, tag in _samples(store, tar_path):
        if tag == SAFE_TAG:
            with Image.open(io.BytesIO(content)) as opened:
                pictures.append(opened.convert("RGB").resize((_TILE_PX, _TILE_PX)))
        if len(pictures) == tiles:
            break
    if not pictures:
        return b""
    sheet = Image.new("RGB", (_TILE_PX * len(pictures), _TILE_PX), "white")
    for position, picture in enumerate(pictures):
        sheet.paste(picture, (position * _TILE_PX, 0))
    output = io.BytesIO()
    sheet.save(output, "JPEG", quality=80)
    return output.getvalue()


def _samples(store: Store, tar_path: str) -> Iterator[tuple[bytes, str | None]]:
    """Picture and NSFW tag of each sample; a sample's members stand together."""
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
