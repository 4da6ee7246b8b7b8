"""Where a row comes from: source file, shard, sample, fetch outcome, embedding file and index, with Dagster links."""

import bisect
import math
from typing import Any
from urllib.parse import quote

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.errors import LaionAssetsError
from laion_assets.search.dataset_search import DatasetSearch
from laion_assets.search.results.find import Hit
from laion_assets.search.stored_images import shard_of
from laion_assets.server.api.results import describe_result
from laion_assets.stages.dedup_parquet.uid_lookup import find_uid
from laion_assets.stages.knn_indices.inputs import CLIP_EMBEDDINGS
from laion_assets.store.store import owner_of

_FETCH = ("status", "error_message", "width", "height", "original_width", "original_height", "exif", "md5", "sha256")


def describe_row(target: DatasetSearch, row_id: int) -> dict[str, Any]:
    """Return the fields of a result, its provenance, all metadata and links. Raises QueryError if it is not shown."""
    dataset = target.dataset
    fields = target.all_fields(row_id)
    version = target.current.version
    embedding, row = _embedding_row(target, row_id)
    key = str(fields["image_path"])
    shard = shard_of(key)
    source = _find_source(target, str(fields["uid"]))
    layout = dataset.layout
    provenance = {
        "source_file": source.get("source_file"),
        "source_row": source.get("source_row"),
        "sample_id": source.get("SAMPLE_ID"),
        "parquet_file": layout.parquet_key(layout.parquet_of_shard(shard)),
        "uid": fields["uid"],
        "shard": layout.shard_key(shard),
        "key": key,
        "fetch": {name: _plain(fields[name]) for name in _FETCH if fields.get(name) is not None},
        "embedding_file": layout.embedding_key(embedding),
        "embedding_row": row,
        "index_id": row_id,
        "index_version": version.version,
        "committed_at": version.manifest.committed_at,
    }
    return {
        **describe_result(dataset, Hit(row_id, float(fields.get("clip_similarity") or 0.0), fields)),
        "provenance": provenance,
        "metadata": {name: _plain(value) for name, value in fields.items()},
        "dagster_links": list(_dagster_links(dataset, provenance)),
    }


def _embedding_row(target: DatasetSearch, row_id: int) -> tuple[EmbeddingNumber, int]:
    """Return the embedding file of an id, and the row in it."""
    starts = [0]
    for rows in target.current.version.details.rows:
        starts.append(starts[-1] + rows)
    file = bisect.bisect_right(starts, row_id) - 1
    return target.dataset.layout.embedding_numbers[file], row_id - starts[file]


def _find_source(target: DatasetSearch, uid: str) -> dict[str, Any]:
    """Return the row of dedup_parquet with its source file and row; empty if it is not there (any more)."""
    try:
        found = find_uid(target.dataset, target.current.store, uid)
    except (LaionAssetsError, OSError):
        return {}
    return dict(found.values) if found is not None else {}


def _dagster_links(dataset: Dataset, provenance: dict[str, Any]) -> Any:
    """Yield links to the pages of the partitions in the Dagster UI, if `search.dagster_url` is set."""
    base = dataset.search.dagster_url.rstrip("/")
    if not base:
        return
    for asset, key in (
        ("dedup_parquet", provenance["parquet_file"]),
        ("image_shards", provenance["shard"]),
        (CLIP_EMBEDDINGS, provenance["embedding_file"]),
    ):
        path = f"/assets/{quote(owner_of(dataset, asset))}/{asset}?view=partitions&partition={quote(str(key))}"
        yield {"label": f"{asset} {key}", "url": base + path}
    yield {"label": "knn_indices", "url": f"{base}/assets/{quote(dataset.name)}/knn_indices"}


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: JSON has no NaN, bytes or dates."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
