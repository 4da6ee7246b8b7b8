"""One embedding file: the shards that belong to it, encoded and committed as npy, npy and parquet, row by row alike.

The work is a pipeline in which the model's device does not wait: shards are verified and tokenized ahead
(`shard_preparation`), images are decoded in threads (`pixel_batches`), the device encodes what is ready
(`group_encoder`), and a thread writes (`embedding_writer`). Memory does not grow with the file.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import InvariantError, ModelError
from laion_assets.progress import Progress
from laion_assets.stages.clip_embeddings.embedding_file import open_vectors
from laion_assets.stages.clip_embeddings.models.clip_model import ClipModel, no_direction
from laion_assets.stages.clip_embeddings.models.weights import weights_identity
from laion_assets.stages.clip_embeddings.pipeline.embedding_writer import EmbeddingWriter
from laion_assets.stages.clip_embeddings.pipeline.finished_groups import FinishedGroups, describe_group
from laion_assets.stages.clip_embeddings.pipeline.group_encoder import DeviceSeconds
from laion_assets.stages.clip_embeddings.pipeline.groups import GroupVectors, group_digest, groups_of
from laion_assets.stages.clip_embeddings.pipeline.pixel_batches import PixelBatches, decode_threads
from laion_assets.stages.clip_embeddings.pipeline.shard_groups import PreparedGroups, ShardGroup
from laion_assets.stages.clip_embeddings.pipeline.shard_preparation import Preparation, ShardToPrepare
from laion_assets.stages.clip_embeddings.stage import STAGE
from laion_assets.stages.handles import CLIP_EMBEDDINGS, ClipEmbeddings, ImageShards
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import State, require_complete, state_before_run
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import Transaction, open_transaction

UNDECODABLE = "undecodable"
"""The reason of a sample whose image no longer decodes."""
NO_DIRECTION = "no_direction"
"""The reason of a sample whose image or caption vector is not finite or zero."""
MAX_NO_DIRECTION = 0.001
"""A file with a larger share of vectors without direction fails: the model or its precision is wrong."""
_GROUPS_WRITING = 2
"""Groups that may wait for the writer."""
KINDS = ("img_emb", "text_emb", "metadata")
"""The files of an embedding partition, by clip-retrieval's folder names."""


class Built(NamedTuple):
    """A committed partition, and whether this call made it (False: it was complete already)."""

    manifest: Manifest
    made: bool


def build_embedding_file(
    dataset: Dataset, store: Store, embedding: int, model: ClipModel, log: Callable[[str], None]
) -> Built:
    """Encode the shards of embedding file `embedding` in order and commit them as a partition of `clip_embeddings`.

    Skips the partition if it is complete, intact, and made by today's model from today's shards. A killed run continues
    after its last finished group of shards. Raises IncompleteError naming shards that are not committed,
    IntegrityError naming a damaged shard and member, EmbeddingError when more than MAX_NO_DIRECTION of the vectors have
    no direction, ModelError if `model` is not the dataset's, ConservationError.
    """
    layout = dataset.layout
    key = layout.embedding_key(embedding)
    settings = STAGE.settings_digest(dataset)
    if model.identity != weights_identity(dataset.model):
        raise ModelError(
            f"{CLIP_EMBEDDINGS} {key} of {dataset.name} needs the model {dataset.model}, and the loaded model is "
            f"{model.identity}. Load the dataset's model."
        )
    shards = ImageShards(store, layout, tuple(layout.shards_of_embedding(embedding)))
    require_complete(dataset, shards)
    manifests = dict(zip(shards.partitions, shards.manifests(), strict=True))
    inputs = inputs_digest(key, list(manifests.values()))
    state = state_before_run(store, STAGE, CLIP_EMBEDDINGS, key, settings, inputs)
    current = state.manifest
    if current is not None and state.is_complete:
        log(f"{CLIP_EMBEDDINGS} {key}: already complete, {current.counts.rows_out:,} rows")
        return Built(current, made=False)
    if current is not None:
        log(f"{CLIP_EMBEDDINGS} {key}: rebuilding, because {state.reason}")
    finished = FinishedGroups(store, layout, embedding, None if state.state is State.DAMAGED else current)
    with open_transaction(store, CLIP_EMBEDDINGS, key) as transaction:
        work = _EmbeddingFile(dataset, store, embedding, model, manifests, finished, log)
        work.encode(transaction)
        rows = _count_rows(transaction, dataset, embedding, model.width)
        counts = Counts(work.rows, rows, {reason: count for reason, count in work.dropped.items() if count})
        manifest = transaction.commit(counts, settings=settings, inputs=inputs, details=work.details())
    finished.clear()
    return Built(manifest, made=True)


class _EmbeddingFile:
    """The work on one embedding file."""

    def __init__(
        self,
        dataset: Dataset,
        store: Store,
        embedding: int,
        model: ClipModel,
        manifests: dict[int, Manifest],
        finished: FinishedGroups,
        log: Callable[[str], None],
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
        self._progress = Progress(
            lambda line: log(f"file {dataset.layout.embedding_key(embedding)}: {line}"), "samples", self.rows
        )

    def encode(self, transaction: Transaction) -> None:
        """Write the three staged files."""
        settings = self.dataset.embeddings
        pixels = PixelBatches(
            self.model.preprocess,
            self.model.preprocessing is not None,
            decode_threads(settings.decode_threads),
            self.model.cores,
            self.model.decoders,
        )
        image_path, text_path, metadata_path = _staged(transaction, self.dataset, self.embedding)
        with (
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
        """What the manifest says of the run, after `encode`."""
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
        """The model's processes, which go on to the next file, or a thread for this file."""
        if self.model.preparation is not None:
            yield self.model.preparation
        else:
            with contextlib.closing(Preparation(0)) as thread:
                yield thread

    def _prepared_groups(self, preparation: Preparation) -> PreparedGroups:
        layout, batch_size = self.dataset.layout, self.dataset.embeddings.batch_size
        encoder = {**self.model.description, "batch_size": batch_size}
        groups, asked = [], []
        for shards in groups_of(layout, tuple(self.manifests), batch_size):
            manifests = [self.manifests[shard] for shard in shards]
            digest = group_digest(manifests, encoder)
            known = self.finished.get(digest)
            groups.append((ShardGroup(digest, known), len(shards)))
            asked += [
                ShardToPrepare(self.store, layout, shard, self.manifests[shard], samples=known is None)
                for shard in shards
            ]
        return PreparedGroups(groups, preparation.prepare(asked, self.model.tokenize), self.model)

    def _write(self, writer: EmbeddingWriter, group: ShardGroup) -> None:
        assert group.result is not None
        try:
            vectors = group.result()
            keys = group.keys
            self._count(vectors, keys)
            if group.known is not None:
                self.reused += len(keys)
            elif keys:
                self.finished.put(group.digest, vectors)
            writer.append(group.shards, vectors)
            names = [self.dataset.layout.shard_key(shard.shard) for shard in group.shards]
            self._groups.append(describe_group(group.digest, names, vectors))
            self._progress.add(len(keys))
        finally:
            group.close()

    def _count(self, vectors: GroupVectors, keys: list[str]) -> None:
        """Count the rows that are dropped; raises EmbeddingError when too many have no direction."""
        undecodable = [key for key, lost in zip(keys, vectors.undecodable, strict=True) if lost]
        lost = ~vectors.kept & ~vectors.undecodable
        aimless = [key for key, lost in zip(keys, lost, strict=True) if lost]
        for reason, found, what in (
            (UNDECODABLE, undecodable, "images no longer decode"),
            (NO_DIRECTION, aimless, "samples have a vector without direction"),
        ):
            self.dropped[reason] += len(found)
            if found:
                self.log(f"{len(found)} {what}: {', '.join(found[:10])}")
        if self.dropped[NO_DIRECTION] > max(1, MAX_NO_DIRECTION * self.rows):
            raise no_direction(self.model.identity, "sample", aimless, self.rows)


def _staged(transaction: Transaction, dataset: Dataset, embedding: int) -> list[Path]:
    return [transaction.stage(ClipEmbeddings.path(dataset.layout, embedding, kind)) for kind in KINDS]


def _count_rows(transaction: Transaction, dataset: Dataset, embedding: int, width: int) -> int:
    """Rows of the three staged files, counted from the files. Raises ConservationError unless they are equal."""
    import pyarrow.parquet as pq

    image_path, text_path, metadata_path = _staged(transaction, dataset, embedding)
    counted = {
        "img_emb": len(open_vectors(image_path, width)),
        "text_emb": len(open_vectors(text_path, width)),
        "metadata": pq.read_metadata(metadata_path).num_rows,
    }
    if len(set(counted.values())) != 1:
        raise InvariantError(
            f"{CLIP_EMBEDDINGS} {transaction.key}: the files hold {counted} rows and must hold as many each. "
            "Nothing was committed; this is a defect of the stage, please report it with the run's log."
        )
    return counted["img_emb"]
