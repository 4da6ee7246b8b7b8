"""Build one embedding file: encode its shards and commit two npy files and a parquet file with the same rows.

The work is a pipeline that keeps the model's device busy. Shards are verified and tokenized ahead
(`shard_preparation`), images are decoded in threads (`pixel_batches`), the device encodes the batches that are ready
(`group_encoder`), and a thread writes (`embedding_writer`). Memory use does not depend on the number of rows.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber, ShardNumber
from laion_assets.errors import InvariantError, ModelError
from laion_assets.models.clip_model import ClipModel, no_direction_error
from laion_assets.models.weights import weights_identity
from laion_assets.progress import Progress
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.pipeline.embedding_writer import EmbeddingWriter
from laion_assets.stages.clip_embeddings.pipeline.finished_groups import FinishedGroups, describe_group
from laion_assets.stages.clip_embeddings.pipeline.group_encoder import DeviceSeconds
from laion_assets.stages.clip_embeddings.pipeline.groups import GroupVectors, group_digest, split_into_groups
from laion_assets.stages.clip_embeddings.pipeline.pixel_batches import PixelBatches, decode_threads
from laion_assets.stages.clip_embeddings.pipeline.shard_groups import PreparedGroups, ShardGroup
from laion_assets.stages.clip_embeddings.pipeline.shard_preparation import Preparation, ShardToPrepare
from laion_assets.stages.clip_embeddings.recorded_similarity import compare_similarity, describe_comparison
from laion_assets.stages.clip_embeddings.stage import STAGE
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import PartitionState, State, require_complete, state_before_run
from laion_assets.store.build_result import BuildResult
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import Transaction, open_transaction
from laion_assets.tables.vector_file import open_vectors

UNDECODABLE = "undecodable"
"""Drop reason: the stored image does not decode."""
NO_DIRECTION = "no_direction"
"""Drop reason: the vector of the image or the caption is zero or not finite."""
MAX_NO_DIRECTION = 0.001
"""Maximum share of vectors without direction. A file with more fails: the model or its precision is wrong."""
_GROUPS_WRITING = 2
"""Maximum number of groups that wait for the writer."""
KINDS = ("img_emb", "text_emb", "metadata")
"""The files of an embedding partition, by clip-retrieval's folder names."""


def build_embedding_file(
    dataset: Dataset,
    store: Store,
    embedding: EmbeddingNumber,
    model: ClipModel,
    log: Callable[[str], None],
    on_encoded: Callable[[int, int], None] | None = None,
) -> BuildResult:
    """Encode the shards of embedding file `embedding` in order and commit them as a partition of `clip_embeddings`.

    Skips the partition if it is complete, intact and up to date. A killed run continues after its last finished group
    of shards. `on_encoded` is called in another thread for each finished group with its numbers of shards and samples;
    without it, progress lines are logged. Raises IncompleteError naming shards that are not committed,
    IntegrityError naming a damaged shard and member, EmbeddingError when more than MAX_NO_DIRECTION of the vectors have
    no direction, ModelError if `model` is not the dataset's, InvariantError if the rows do not
    add up.
    """
    layout = dataset.layout
    key = layout.embedding_key(embedding)
    if model.identity != weights_identity(dataset.model):
        raise ModelError(
            f"{CLIP_EMBEDDINGS} {key} of {dataset.name} requires the model {dataset.model}, and the loaded model is "
            f"{model.identity}. Load the model of the dataset."
        )
    manifests, settings, inputs, state = _inspect(dataset, store, embedding)
    current = state.manifest
    if current is not None and state.is_complete:
        log(f"{CLIP_EMBEDDINGS} {key}: already complete, {current.counts.rows_out:,} rows")
        FinishedGroups(store, layout, embedding, None).clear()  # a run may have been killed right after its commit
        return BuildResult(current, was_built=False)
    if current is not None:
        log(f"{CLIP_EMBEDDINGS} {key}: rebuilding, because {state.reason}")
    finished = FinishedGroups(store, layout, embedding, None if state.state is State.DAMAGED else current)
    with open_transaction(store, CLIP_EMBEDDINGS, key) as transaction:
        work = _EmbeddingFile(dataset, store, embedding, model, manifests, finished, log, on_encoded)
        work.encode(transaction)
        rows = count_rows(transaction, dataset, embedding, model.width)
        counts = Counts(work.rows, rows, {reason: count for reason, count in work.dropped.items() if count})
        compared = compare_similarity(_stage_files(transaction, dataset, embedding)[2])
        similarity = None if compared is None else compared.details
        log(f"file {key}: {describe_comparison(similarity)}")
        details = work.details() | {"recorded_similarity": similarity}
        manifest = transaction.commit(counts, settings=settings, inputs=inputs, details=details)
    finished.clear()
    return BuildResult(manifest, was_built=True)


def find_complete_manifest(dataset: Dataset, store: Store, embedding: EmbeddingNumber) -> Manifest | None:
    """Return the manifest of an embedding file that `build_embedding_file` would skip, else None. Needs no model."""
    state = _inspect(dataset, store, embedding).state
    return state.manifest if state.is_complete else None


class _Inspected(NamedTuple):
    """What an embedding file is built from, the digests of settings and inputs, and its state before the run."""

    manifests: dict[ShardNumber, Manifest]
    settings: str
    inputs: str
    state: PartitionState


def _inspect(dataset: Dataset, store: Store, embedding: EmbeddingNumber) -> _Inspected:
    layout, settings = dataset.layout, STAGE.settings_digest(dataset)
    key = layout.embedding_key(embedding)
    shards = ImageShards(store, layout, tuple(layout.shards_of_embedding(embedding)))
    require_complete(dataset, shards)
    manifests = dict(zip(shards.partitions, shards.manifests(), strict=True))
    inputs = inputs_digest(key, list(manifests.values()))
    adopted = STAGE.adopted_digest(dataset)
    state = state_before_run(store, STAGE, CLIP_EMBEDDINGS, key, settings, inputs, adopted, dataset.rebuild_before)
    return _Inspected(manifests, settings, inputs, state)


class _EmbeddingFile:
    """The work on one embedding file."""

    def __init__(
        self,
        dataset: Dataset,
        store: Store,
        embedding: EmbeddingNumber,
        model: ClipModel,
        manifests: dict[ShardNumber, Manifest],
        finished: FinishedGroups,
        log: Callable[[str], None],
        on_encoded: Callable[[int, int], None] | None,
    ) -> None:
        self.dataset, self.store, self.embedding, self.model = dataset, store, embedding, model
        self.manifests, self.finished, self.log = manifests, finished, log
        self.rows = sum(manifest.counts.rows_out for manifest in manifests.values())
        self.dropped = {UNDECODABLE: 0, NO_DIRECTION: 0}
        self.device_s = DeviceSeconds()
        self.waited_s = {"read": 0.0, "decode": 0.0, "write": 0.0}
        self.reused = 0
        self._groups: list[dict[str, Any]] = []
        self._started = time.monotonic()
        progress = Progress(
            lambda line: log(f"file {dataset.layout.embedding_key(embedding)}: {line}"), "samples", self.rows
        )
        self._on_encoded = on_encoded or (lambda shards, samples: progress.add(samples))

    def encode(self, transaction: Transaction) -> None:
        """Write the three staged files."""
        settings = self.dataset.embeddings
        pixels = PixelBatches(
            self.model.preprocess,
            self.model.preprocessing is not None,
            decode_threads(settings.decode_threads),
            self.model.cores,
            self.model.pools.decoders,
        )
        image_path, text_path, metadata_path = _stage_files(transaction, self.dataset, self.embedding)
        with (
            self.model.select_device(),
            EmbeddingWriter(self.dataset.layout, image_path, text_path, metadata_path, self.model.width) as writer,
            ThreadPoolExecutor(1, thread_name_prefix="write") as thread,
            self._preparation() as preparation,
            contextlib.closing(self._prepared_groups(preparation)) as groups,
            pixels,
        ):
            writing: deque[Future[None]] = deque()

            def write_done(at_most: int) -> None:
                writing.extend(thread.submit(self._write, writer, group) for group in groups.take_done())
                started = time.perf_counter()
                while len(writing) > at_most:
                    writing.popleft().result()
                self.waited_s["write"] += time.perf_counter() - started

            for batch in pixels.decode(groups.requests(settings.batch_size)):
                group: ShardGroup = batch.request.group
                copied = group.add(batch, self.model, self.device_s, settings.batch_size)
                pixels.release(batch, copied)
                write_done(at_most=_GROUPS_WRITING)
            write_done(at_most=0)
            self.waited_s |= {"read": groups.waited_s, "decode": pixels.waited_s, "device": pixels.waited_for_device_s}

    def details(self) -> dict[str, object]:
        """Return the details of the run for the manifest; call it after `encode`."""
        layout, model = self.dataset.layout, self.model
        seconds = max(time.monotonic() - self._started, 1e-9)
        encoded = self.rows - self.reused
        return {
            "model": model.identity,
            "width": model.width,
            "dtype": "float16",
            "shards": [layout.shard_key(shard) for shard in self.manifests],
            "rows_per_second": round(encoded / seconds, 1),
            "rows_reused": self.reused,
            "device": model.device,
            "precision": model.precision,
            "batch_size": self.dataset.embeddings.batch_size,
            "device_busy": round((self.device_s.copy + self.device_s.encode) / seconds, 3),
            "copy_s": round(self.device_s.copy, 3),
            "encode_s": round(self.device_s.encode, 3),
            "waited_s": {name: round(value, 3) for name, value in self.waited_s.items()},
            "groups": self._groups,
        }

    @contextlib.contextmanager
    def _preparation(self) -> Iterator[Preparation]:
        """Return the model's processes, which are kept for the next file, or a thread for this file."""
        if self.model.pools.preparation is not None:
            yield self.model.pools.preparation
        else:
            with contextlib.closing(Preparation(0)) as thread:
                yield thread

    def _prepared_groups(self, preparation: Preparation) -> PreparedGroups:
        layout, batch_size = self.dataset.layout, self.dataset.embeddings.batch_size
        encoder = {**self.model.description, "batch_size": batch_size}
        groups, requests = [], []
        for shards in split_into_groups(layout, tuple(self.manifests), batch_size):
            manifests = [self.manifests[shard] for shard in shards]
            digest = group_digest(manifests, encoder)
            known = self.finished.get(digest)
            groups.append((ShardGroup(digest, known), len(shards)))
            requests += [
                ShardToPrepare(self.store, layout, shard, self.manifests[shard], samples=known is None)
                for shard in shards
            ]
        return PreparedGroups(groups, preparation.prepare(requests, self.model.tokenize), self.model)

    def _write(self, writer: EmbeddingWriter, group: ShardGroup) -> None:
        assert group.result is not None
        try:
            vectors = group.result()
            keys = group.keys
            self._count_dropped(vectors, keys)
            if group.known is not None:
                self.reused += len(keys)
            elif keys:
                self.finished.put(group.digest, vectors)
            writer.append(group.shards, vectors)
            names = [self.dataset.layout.shard_key(shard.shard) for shard in group.shards]
            self._groups.append(describe_group(group.digest, names, vectors))
            self._on_encoded(len(group.shards), len(keys))
        finally:
            group.close()

    def _count_dropped(self, vectors: GroupVectors, keys: list[str]) -> None:
        """Count the dropped rows by reason. Raises EmbeddingError if too many vectors have no direction."""
        undecodable = [key for key, lost in zip(keys, vectors.undecodable, strict=True) if lost]
        lost = ~vectors.kept & ~vectors.undecodable
        directionless = [key for key, lost in zip(keys, lost, strict=True) if lost]
        for reason, found, what in (
            (UNDECODABLE, undecodable, "images do not decode"),
            (NO_DIRECTION, directionless, "samples have a vector that is zero or not finite"),
        ):
            self.dropped[reason] += len(found)
            if found:
                self.log(f"{len(found)} {what}: {', '.join(found[:10])}")
        if self.dropped[NO_DIRECTION] > max(1, MAX_NO_DIRECTION * self.rows):
            raise no_direction_error(self.model.identity, "sample", directionless, self.rows)


def _stage_files(transaction: Transaction, dataset: Dataset, embedding: EmbeddingNumber) -> list[Path]:
    return [transaction.stage(ClipEmbeddings.path(dataset.layout, embedding, kind)) for kind in KINDS]


def count_rows(transaction: Transaction, dataset: Dataset, embedding: EmbeddingNumber, width: int) -> int:
    """Count the rows of the three staged files from the files. Raises InvariantError if they differ."""
    import pyarrow.parquet as pq

    image_path, text_path, metadata_path = _stage_files(transaction, dataset, embedding)
    rows = {
        "img_emb": len(open_vectors(image_path, width)),
        "text_emb": len(open_vectors(text_path, width)),
        "metadata": pq.read_metadata(metadata_path).num_rows,
    }
    if len(set(rows.values())) != 1:
        raise InvariantError(
            f"{CLIP_EMBEDDINGS} {transaction.key}: the numbers of rows in the files differ: {rows}. Nothing was "
            "committed. This is a bug in the stage. Please report it with the log of the run."
        )
    return rows["img_emb"]
