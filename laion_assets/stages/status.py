"""Which partitions are complete, stale or missing, from manifests alone.

Each stage's expected digests are written down here once: stages record them when they publish, status and checks
compare them later. Stale means: made with other settings, or from other rows, than today's. It is shown and never
acted on.
"""

import contextlib
import gc
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber, PartitionKey, ShardNumber
from laion_assets.dataset.settings.field import byte_settings, digest_of
from laion_assets.errors import IncompleteError, IntegrityError
from laion_assets.stages.clip_embeddings.models.weights import weights_identity
from laion_assets.stages.handles import (
    CLIP_EMBEDDINGS,
    HANDLES,
    IMAGE_SHARDS,
    SOURCES,
    STATISTICS,
    Handle,
    stages_of,
)
from laion_assets.store.local_failure_notes import noted_keys, read_note
from laion_assets.store.manifest import Manifest, disagreement, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.table_limits import TableLimits

UID_VERSION = 1
"""Raised when the identity or order of rows changes, so that older parquet files count as stale."""
STATISTICS_VERSION = 2
"""Raised when other things are counted, or otherwise."""
EMBEDDING_VERSION = 3
"""Raised when the bytes of embedding files change for the same model and shards."""

_READERS, _READ_AT_ONCE = 8, 256
"""Threads that read manifests ahead where the disk is slow, and how many each takes at once."""


class State(StrEnum):
    """The states of a partition."""

    COMPLETE = "complete"
    """Its manifest agrees with its files, today's settings and today's inputs."""
    STALE = "stale"
    """Settings or inputs changed since it was built. It is shown, and never rebuilt by itself."""
    MISSING = "missing"
    """It is not committed."""
    DAMAGED = "damaged"
    """It is committed, and its files or its manifest are missing, truncated or altered."""


@dataclass(frozen=True)
class PartitionState:
    """State of one partition, and the reason where it is not complete.

    `local_failure`: it is missing because the last run did not commit it, for a failure of its machine or network; the
    reason describes the failure.
    """

    asset: str
    key: PartitionKey
    state: State
    reason: str = ""
    manifest: Manifest | None = None
    local_failure: bool = False


def settings_digest(dataset: Dataset, asset: str) -> str:
    """Digest of the settings that change the bytes of an artefact, as the dataset has them today."""
    layout = dataset.layout
    match asset:
        case "raw_csv":
            values: dict[str, object] = {"source": dataset.source, "pattern": dataset.metadata.pattern}
        case "published_parquet":
            values = {"published": list(dataset.published)}
        case "dedup_parquet":
            counts = [layout.parquet_files, layout.shards]
            values = {**byte_settings(dataset.metadata), "uid": UID_VERSION, "layout": counts}
            if dataset.metadata.where.is_set:
                values["where"] = dataset.metadata.where.values()
            if dataset.metadata.limits != TableLimits():
                values["limits"] = byte_settings(dataset.metadata.limits)
        case "image_shards":
            values = byte_settings(dataset.images)
        case "dataset_statistics" | "image_statistics":
            values = {"version": STATISTICS_VERSION, "layout": [layout.shards, layout.embedding_files]}
        case "clip_embeddings":
            values = {"model": weights_identity(dataset.model), "format": EMBEDDING_VERSION}
        case _:
            values = byte_settings(dataset.index)
    return digest_of([asset, values])


def inputs_digest(layout_key: str, upstream: list[Manifest]) -> str:
    """Digest of what a partition reads: of the one part made for it, else of all upstream contents in order."""
    if len(upstream) == 1 and layout_key in upstream[0].outputs:
        return upstream[0].outputs[layout_key]
    return digest_of([[manifest.key, manifest.content] for manifest in upstream])


def committed_upstream(dataset: Dataset, store: Store, asset: str) -> list[Manifest]:
    """The manifests of what an asset of statistics counts, in order; unpublished partitions are left out."""
    handle = HANDLES[STATISTICS[asset]]
    keys = [handle.key(dataset.layout, number) for number in handle.numbers(dataset.layout)]
    found = [read_manifest(store, handle.asset, key) for key in keys]
    return [manifest for manifest in found if manifest is not None]


def upstream_partitions(
    handle: type[Handle], dataset: Dataset, partition: int
) -> tuple[type[Handle] | None, Sequence[int]]:
    """The artefact before, and which of its partitions this one reads."""
    layout = dataset.layout
    if handle.asset in SOURCES:
        return None, range(0)
    if handle.asset in STATISTICS:
        counted = HANDLES[STATISTICS[handle.asset]]
        return counted, counted.numbers(layout)
    stages = stages_of(dataset)
    before = HANDLES[stages[stages.index(handle.asset) - 1]]
    if handle.asset == IMAGE_SHARDS:
        parquet = layout.parquet_of_shard(ShardNumber(partition))
        return before, range(parquet, parquet + 1)
    if handle.asset == CLIP_EMBEDDINGS:
        return before, layout.shards_of_embedding(EmbeddingNumber(partition))
    return before, before.numbers(layout)


class DatasetStatus:
    """The states of a dataset's partitions; reads each manifest once and keeps it."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.store = Store.of(dataset)
        self._manifests: dict[tuple[str, int], Manifest | None] = {}
        self._problems: dict[tuple[str, int], str | None] = {}
        self._settings: dict[str, str] = {}
        self._noted: dict[str, frozenset[str]] = {}

    def state(self, asset: str, partition: int) -> PartitionState:
        """The state of one partition."""
        handle = HANDLES[asset]
        key = handle.key(self.dataset.layout, partition)
        try:
            manifest = self._manifest(handle, partition)
        except IntegrityError as error:
            return PartitionState(asset, key, State.DAMAGED, str(error))
        if manifest is None:
            note = self._local_failure(asset, key)
            return PartitionState(asset, key, State.MISSING, note or "not published", local_failure=bool(note))
        looked = (asset, partition)
        problem = self._problems.pop(looked) if looked in self._problems else disagreement(self.store, manifest)
        if problem is not None:
            return PartitionState(asset, key, State.DAMAGED, problem, manifest)
        if asset not in self._settings:
            self._settings[asset] = settings_digest(self.dataset, asset)
        if manifest.settings != self._settings[asset]:
            return PartitionState(asset, key, State.STALE, "made with other settings", manifest)
        expected = self.expected_inputs(asset, partition)
        if expected is not None and manifest.inputs != expected:
            return PartitionState(asset, key, State.STALE, "made from other rows", manifest)
        return PartitionState(asset, key, State.COMPLETE, "", manifest)

    def states(self, asset: str) -> list[PartitionState]:
        """The states of all partitions of an asset, in order."""
        partitions = HANDLES[asset].numbers(self.dataset.layout)
        with _uncollected():
            self._read_ahead(HANDLES[asset], partitions)
            return [self.state(asset, partition) for partition in partitions]

    def expected_inputs(self, asset: str, partition: int) -> str | None:
        """Digest of what the partition would read today, None where something of it is not published."""
        handle = HANDLES[asset]
        before, partitions = upstream_partitions(handle, self.dataset, partition)
        if before is None:
            return None
        upstream = []
        for number in partitions:
            try:
                manifest = self._manifest(before, number)
            except IntegrityError:
                return None
            if manifest is not None:
                upstream.append(manifest)
            elif asset not in STATISTICS:  # They count what there is.
                return None
        return inputs_digest(handle.key(self.dataset.layout, partition), upstream)

    def _local_failure(self, asset: str, key: str) -> str:
        """The local failure for which the last run refused to commit the partition; empty if there was none."""
        if asset not in self._noted:
            self._noted[asset] = noted_keys(self.store, asset)
        return read_note(self.store, asset, key) if key in self._noted[asset] else ""

    def _read_ahead(self, handle: type[Handle], partitions: Sequence[int]) -> None:
        """Read manifests and sizes of files: in threads where the first of them mostly waited for a disk or a network.

        Where nothing waits, threads would only take the interpreter's lock from each other: twice the time.
        """

        def read(part: Sequence[int]) -> None:
            for partition in part:
                with contextlib.suppress(IntegrityError):  # raised again by who asks for its state
                    manifest = self._manifest(handle, partition)
                    if manifest is not None:
                        self._problems[handle.asset, partition] = disagreement(self.store, manifest)

        parts = [partitions[start : start + _READ_AT_ONCE] for start in range(0, len(partitions), _READ_AT_ONCE)]
        started, worked = time.perf_counter(), time.thread_time()
        read(parts.pop(0))
        if time.thread_time() - worked < (time.perf_counter() - started) / 2:
            with ThreadPoolExecutor(_READERS, thread_name_prefix="manifests") as pool:
                list(pool.map(read, parts))

    def _manifest(self, handle: type[Handle], partition: int) -> Manifest | None:
        found = (handle.asset, partition)
        if found not in self._manifests:
            key = handle.key(self.dataset.layout, partition)
            self._manifests[found] = read_manifest(self.store, handle.asset, key)
        return self._manifests[found]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which would look through a growing heap of manifests again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def require_complete(dataset: Dataset, handle: Handle) -> None:
    """Refuse partitions that are not published or whose files disagree with their manifests.

    Stale ones pass: they are consistent, only older than today's settings. Raises IncompleteError naming up to ten.
    """
    problems = []
    for partition in handle.partitions:
        key = handle.key(handle.layout, partition)
        try:
            manifest = read_manifest(handle.store, handle.asset, key)
            problem = "not published" if manifest is None else disagreement(handle.store, manifest)
        except IntegrityError as error:
            problem = str(error)
        if problem:
            problems.append(f"{key} ({problem})")
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise IncompleteError(
            f"{handle.asset} of {dataset.name} is incomplete: {', '.join(problems[:10])}{more}. "
            f"Materialize these partitions of {dataset.name}/{handle.asset} first."
        )
