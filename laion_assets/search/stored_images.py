"""Read the stored image of a row from its shard."""

import json
import tarfile
from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.identity import compute_uid
from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.dataset.layout import SAMPLES_PER_SHARD_KEY, Layout, ShardNumber
from laion_assets.errors import IntegrityError, StoreError
from laion_assets.search.shard_samples import ShardSamples, read_samples
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.store import Store

MAX_STORED_BYTES = 100_000_000
"""Maximum size of a stored image that is read."""


@dataclass(frozen=True)
class StoredImage:
    """The bytes of a stored image and its format: jpg, png or webp."""

    content: bytes
    format: str


def shard_of(key: str) -> ShardNumber:
    """Return the number of the shard of a sample key."""
    return ShardNumber(int(key) // SAMPLES_PER_SHARD_KEY)


def read_stored_image(store: Store, layout: Layout, key: str, uid: str) -> StoredImage:
    """Read the image of a sample from its shard, by its offset in the shard's index.

    A shard may be replaced at any time, and a rebuilt shard may have other rows at the same keys. So the uid of the
    sample's json is compared, too. Raises IntegrityError if the shard has no such image.
    """
    path = ImageShards.path(layout, shard_of(key), ".tar")
    where = store.address(path)

    def read(samples: ShardSamples) -> StoredImage:
        members = {member.extension: member for member in samples.find(key)}
        found = next((name for name in ENCODE_FORMATS if name in members), None)
        if found is None or "json" not in members or members[found].size > MAX_STORED_BYTES:
            raise IntegrityError(f"{where} has no image {key}. {_AGAIN}")
        stored = json.loads(samples.read(members["json"]))
        if not isinstance(stored, dict) or _uid_of(stored) != uid:
            raise IntegrityError(f"{where} has another row at {key}: it was rebuilt after the indices. {_AGAIN}")
        return StoredImage(samples.read(members[found]), found)

    try:
        return read_samples(store, path, read)
    except (FileNotFoundError, StoreError) as error:
        raise IntegrityError(f"{where} is missing. Materialize the shard again.") from error
    except (OSError, tarfile.TarError, ValueError) as error:
        raise IntegrityError(f"{where} cannot be read at {key}: {error}") from error


def _uid_of(stored: dict[str, Any]) -> str:
    """Return the uid in a sample's json; that of its URL and caption in a shard that img2dataset wrote."""
    uid, url, caption = (stored.get(name) for name in ("uid", "url", "caption"))
    if uid is not None:
        return str(uid)
    return compute_uid(url, caption) if isinstance(url, str) and isinstance(caption, str | None) else ""


_AGAIN = "Materialize the embeddings and the indices again."
