"""One embedding file: the shards that belong to it, encoded and published as npy, npy and parquet, row by row alike.

Batches are cut at the same samples of the file each time, whatever its shards are, so that a rerun ends in the same
bytes and small shards do not make small batches. Memory does not grow with the file: vectors and metadata are appended
as they come.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from laion_assets.commit.manifest import Counts, Manifest, disagreement
from laion_assets.commit.publication import Publication, publication, recover
from laion_assets.commit.store import Store
from laion_assets.datasets import Dataset
from laion_assets.embeddings.decoding import Batch, batched, decoded
from laion_assets.embeddings.embedding_file import VectorWriter, open_vectors
from laion_assets.embeddings.metadata_file import MetadataWriter, metadata_schema
from laion_assets.embeddings.shard_reader import ShardSample, read_shard
from laion_assets.embeddings.weights import weights_identity
from laion_assets.errors import ConservationError, IntegrityError, ModelError
from laion_assets.freshness import inputs_digest, require_complete, settings_digest
from laion_assets.handles import CLIP_EMBEDDINGS, ClipEmbeddings, ImageShards
from laion_assets.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from laion_assets.embeddings.clip_model import ClipModel

UNDECODABLE = "undecodable"
"""The reason of a sample whose picture no longer decodes; it is left out of vectors and metadata alike."""
KINDS = ("img_emb", "text_emb", "metadata")
"""The files of an embedding partition, by clip-retrieval's folder names."""


class Built(NamedTuple):
    """A published partition, and whether this call made it (False: it was complete already)."""

    manifest: Manifest
    made: bool


def build_embedding_file(
    dataset: Dataset, store: Store, embedding: int, model: "ClipModel", say: Callable[[str], None]
) -> Built:
    """Encode the shards of embedding file `embedding` in order and publish them as partition of `clip_embeddings`.

    Does nothing if the partition is complete, undamaged and from today's model and shards. Raises IncompleteError
    naming shards that are not published, IntegrityError naming a damaged shard and member, EmbeddingError naming
    samples without a direction, ModelError if `model` is not the dataset's, ConservationError.
    """
    layout = dataset.layout
    key = layout.embedding_key(embedding)
    settings = settings_digest(dataset, CLIP_EMBEDDINGS)
    if model.identity != weights_identity(dataset.model):
        raise ModelError(
            f"{CLIP_EMBEDDINGS} {key} of {dataset.name} is to be made with {dataset.model}, and the loaded model is "
            f"{model.identity}: load the dataset's model."
        )
    shards = ImageShards(store, layout, tuple(layout.shards_of_embedding(embedding)))
    require_complete(dataset, shards)
    manifests = list(shards.manifests())
    inputs = inputs_digest(key, manifests)
    current = recover(store, CLIP_EMBEDDINGS, key)
    if current is not None and (current.settings, current.inputs) == (settings, inputs):
        damage = disagreement(store, current, hashes=True)
        if damage is None:
            say(f"{CLIP_EMBEDDINGS} {key}: complete already, {current.counts.rows_out:,} rows")
            return Built(current, made=False)
        say(f"{CLIP_EMBEDDINGS} {key}: made again, because {damage}")
    started = time.monotonic()
    rows_in = sum(manifest.counts.rows_out for manifest in manifests)
    with publication(store, CLIP_EMBEDDINGS, key) as attempt:
        undecodable = _encode(dataset, shards, manifests, attempt, embedding, model, say)
        rows = _recounted(attempt, dataset, embedding, model.width)
        counts = Counts(rows_in, rows, {UNDECODABLE: undecodable} if undecodable else {})
        details = {
            "model": model.identity,
            "width": model.width,
            "dtype": "float16",
            "shards": [layout.shard_key(shard) for shard in shards.partitions],
            "rows_per_second": round(rows / max(time.monotonic() - started, 1e-9), 1),
            "device": model.device,
            "precision": model.precision,
            "batch_size": dataset.embeddings.batch_size,
        }
        return Built(attempt.commit(counts, settings=settings, inputs=inputs, details=details), made=True)


def _encode(
    dataset: Dataset,
    shards: ImageShards,
    manifests: list[Manifest],
    attempt: Publication,
    embedding: int,
    model: "ClipModel",
    say: Callable[[str], None],
) -> int:
    """Write the three staged files; gives the number of samples whose picture no longer decodes."""
    settings, layout = dataset.embeddings, dataset.layout
    image_path, text_path, metadata_path = _staged(attempt, dataset, embedding)
    rows = sum(manifest.counts.rows_out for manifest in manifests)
    key = layout.embedding_key(embedding)
    progress = Progress(lambda line: say(f"file {key}: {line}"), "samples", rows)

    def samples() -> Iterator[ShardSample]:
        for shard, manifest in zip(shards.partitions, manifests, strict=True):
            yield from read_shard(shards.store, layout, shard, manifest)

    runs = batched(samples(), settings.batch_size)
    undecodable = 0
    with (
        VectorWriter(image_path, model.width) as images,
        VectorWriter(text_path, model.width) as texts,
        MetadataWriter(metadata_path, _schema(shards)) as metadata,
    ):
        for batch in decoded(runs, model.preprocess, settings.decode_threads or os.cpu_count() or 1):
            if batch.undecodable:
                undecodable += len(batch.undecodable)
                names = ", ".join(sample.key for sample in batch.undecodable[:10])
                say(f"{len(batch.undecodable)} pictures no longer decode: {names}")
            if batch.pixels is not None:
                _append(batch, batch.pixels, model, images, texts)
                metadata.append(batch.samples)
            progress.add(len(batch.samples) + len(batch.undecodable))
    return undecodable


def _append(
    batch: Batch, pixels: "torch.Tensor", model: "ClipModel", images: VectorWriter, texts: VectorWriter
) -> None:
    keys = [sample.key for sample in batch.samples]
    images.append(model.encode_images(pixels, keys))
    texts.append(model.encode_texts([sample.caption for sample in batch.samples], keys))


def _staged(attempt: Publication, dataset: Dataset, embedding: int) -> list[Path]:
    return [attempt.stage(ClipEmbeddings.path(dataset.layout, embedding, kind)) for kind in KINDS]


def _schema(shards: ImageShards) -> "pa.Schema":
    """The metadata columns; all shards have to agree on theirs, or the file would mix two settings."""
    import pyarrow.parquet as pq

    found: pa.Schema | None = None
    for shard in shards.partitions:
        with shards.store.open(shards.path(shards.layout, shard, ".parquet")) as file:
            schema = metadata_schema(pq.read_schema(file))
        if found is not None and not schema.equals(found):
            raise IntegrityError(
                f"shard {shards.layout.shard_key(shard)} has other columns than shard "
                f"{shards.layout.shard_key(shards.partitions[0])} ({', '.join(schema.names)}, and "
                f"{', '.join(found.names)}): they were made with other settings. Materialize the older one again."
            )
        found = schema
    assert found is not None
    return found


def _recounted(attempt: Publication, dataset: Dataset, embedding: int, width: int) -> int:
    """Rows of the three staged files, counted from the files. Raises ConservationError unless they are equal."""
    import pyarrow.parquet as pq

    image_path, text_path, metadata_path = _staged(attempt, dataset, embedding)
    counted = {
        "img_emb": len(open_vectors(image_path, width)),
        "text_emb": len(open_vectors(text_path, width)),
        "metadata": pq.read_metadata(metadata_path).num_rows,
    }
    if len(set(counted.values())) != 1:
        raise ConservationError(
            f"{CLIP_EMBEDDINGS} {attempt.key}: the files hold {counted} rows and have to hold as many each. "
            "Nothing was published; this is a defect of the stage, please report it with the run's log."
        )
    return counted["img_emb"]
