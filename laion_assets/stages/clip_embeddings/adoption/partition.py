"""Verify the rows that form one embedding file: none is missing, and they are vectors of the dataset's model."""

from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber, ShardNumber
from laion_assets.errors import AdoptionError
from laion_assets.stages.clip_embeddings.adoption.embedding_file import VECTORS, VerifiedEmbeddings
from laion_assets.stages.clip_embeddings.adoption.rows import columns_of, count_undecodable, match_rows
from laion_assets.stages.clip_embeddings.adoption.source_file import EmbeddingSource
from laion_assets.stages.clip_embeddings.build import MAX_NO_DIRECTION, NO_DIRECTION, UNDECODABLE
from laion_assets.stages.clip_embeddings.verify import ADOPTED_MIN_COSINE, choose_rows, encode_samples
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import require_complete
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np

    from laion_assets.models.clip_model import ClipModel

ROWS_ENCODED = 8
"""Rows of an embedding file that are encoded again and compared."""


def verify_partition(
    dataset: Dataset,
    store: Store,
    folder: Path,
    embedding: EmbeddingNumber,
    sources: dict[ShardNumber, EmbeddingSource],
    model: "ClipModel",
) -> VerifiedEmbeddings:
    """Verify the rows of an embedding file. `sources` has the file with the rows of each shard.

    Raises AdoptionError for missing rows, too many vectors without direction, shards with different columns, or
    vectors of another model, IncompleteError naming shards that are not committed.
    """
    layout, key = dataset.layout, dataset.layout.embedding_key(embedding)
    shards = ImageShards(store, layout, tuple(layout.shards_of_embedding(embedding)))
    require_complete(dataset, shards)
    manifests = dict(zip(shards.partitions, shards.manifests(), strict=True))
    undecodable = directionless = next_row = 0
    in_order = True
    columns: dict[str, list[str]] = {}
    kept: list[tuple[ShardNumber, EmbeddingSource, np.ndarray, np.ndarray]] = []
    for shard, manifest in manifests.items():
        source = sources.get(shard)
        matched = match_rows(store, layout, shard, source)
        columns[manifest.key] = columns_of(matched.table)
        if source is None:
            if len(matched.rows):
                raise AdoptionError(f"no file has rows of shard {manifest.key}, which has {len(matched.rows):,} images")
            continue
        undecodable += count_undecodable(store, layout, matched, manifest)
        directionless += int(((matched.rows >= 0) & ~matched.kept).sum())
        rows = matched.rows[matched.kept]
        in_order = in_order and bool((rows == range(next_row, next_row + len(rows))).all())
        next_row += len(rows)
        kept.append((shard, source, matched.table.column("key").to_numpy()[matched.kept], rows))
    _check_columns(columns)
    images = sum(manifest.counts.rows_out for manifest in manifests.values())
    if directionless > max(1, MAX_NO_DIRECTION * images):
        raise AdoptionError(f"{directionless:,} of {images:,} rows have a vector that is zero or not finite")
    used = list(dict.fromkeys(source for _, source, _, _ in kept))
    in_order = in_order and len(used) == 1 and used[0].is_unit and len(used[0].rows) == next_row
    _check_model(store, dataset, kept, model)
    reasons = {name: count for name, count in ((UNDECODABLE, undecodable), (NO_DIRECTION, directionless)) if count}
    return VerifiedEmbeddings(
        dataset,
        folder,
        embedding,
        {shard: sources.get(shard) for shard in manifests},
        Counts(images, next_row, reasons),
        inputs_digest(key, list(manifests.values())),
        model.identity,
        in_order,
    )


def _check_columns(columns: dict[str, list[str]]) -> None:
    """Raise AdoptionError if two shards have different columns: they cannot be in one metadata file."""
    first = next(iter(columns))
    for key, names in columns.items():
        if names != columns[first]:
            differing = ", ".join(sorted(set(names) ^ set(columns[first]))) or "in another order"
            raise AdoptionError(f"its shards {first} and {key} have different columns: {differing}")


def _check_model(
    store: Store,
    dataset: Dataset,
    kept: "list[tuple[ShardNumber, EmbeddingSource, np.ndarray, np.ndarray]]",
    model: "ClipModel",
) -> None:
    """Encode some samples again and compare them with their rows. Raises AdoptionError for another model or order."""
    import numpy as np

    total, start = sum(len(rows) for _, _, _, rows in kept), 0
    chosen = choose_rows(total, ROWS_ENCODED)
    for shard, source, keys, rows in kept:
        places = [row - start for row in chosen if start <= row < start + len(rows)]
        start += len(rows)
        if not places:
            continue
        if source.width != model.width:
            raise AdoptionError(
                f"file {source.number} has vectors of width {source.width}, and the model {dataset.model} of "
                f"{dataset.name} makes {model.width}"
            )
        wanted = {str(keys[place]): int(rows[place]) for place in places}
        for row, *expected in encode_samples(store, dataset.layout, shard, model, wanted):
            for kind, vector in zip(VECTORS, expected, strict=True):
                stored = source.vectors(kind)[row].astype(np.float32)
                cosine = float(stored @ vector / np.linalg.norm(stored))
                if not cosine >= ADOPTED_MIN_COSINE:
                    raise AdoptionError(
                        f"row {row} of {kind}_{source.number}.npy is not the vector of its sample under the model "
                        f"{dataset.model}: cosine {cosine:.4f}, expected {ADOPTED_MIN_COSINE} or more. Set the model "
                        "of the dataset to that of clip-retrieval, or the files are damaged"
                    )
