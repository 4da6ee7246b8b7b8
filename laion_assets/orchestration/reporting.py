"""A run's partitions are reported to Dagster as each is published, with its own metadata, and each of them once.

Left alone, Dagster reports all partitions of a range when its run succeeds, none when it is killed, and finds each
one's metadata by a search over all of them. Here a run reports what it has published, every few seconds and in
batches (one transaction each on PostgreSQL, where DAGSTER_EVENT_BATCH_SIZE is set), and its output is marked so that
Dagster does not report it again. A partition that was complete before is reported, too: its backfill waits for it.

A thread reports while the work goes on: an event takes SQLite several milliseconds, most of them waiting for the disk.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from dagster._core.events import DagsterEvent, DagsterEventBatchMetadata, generate_event_batch_id

from laion_assets.orchestration.declaration import asset_key, run_logger
from laion_assets.orchestration.sqlite_log import kept_open
from laion_assets.orchestration.ui.metadata_values import description
from laion_assets.stages.handles import Handle
from laion_assets.stages.status import DatasetStatus, State
from laion_assets.store.manifest import Manifest

if TYPE_CHECKING:
    from laion_assets.orchestration.partition_io import PartitionIOManager

BATCH = 1_000
"""Partitions reported in one go, at most."""
INTERVAL_S = 3.0
"""How long a published partition waits for others to be reported with it, about."""

HandleT = TypeVar("HandleT", bound=Handle)
Published = Callable[[int, Manifest], None]
"""Called with a partition's number and its manifest, once it is published or found complete."""


class Reporting:
    """Reports the published partitions of a run: `with Reporting(...) as published:` around the work.

    Where the work fails or is interrupted, what it had published by then without saying so is looked up and reported.
    What Dagster's storage raised meanwhile is raised by the next call of `published`, or at the end.
    """

    def __init__(
        self, context: dg.AssetExecutionContext, manager: "PartitionIOManager", partitions: Sequence[int]
    ) -> None:
        self._step = context.get_step_execution_context()
        self._say = run_logger(context)
        self._manager = manager
        self._partitions = partitions
        self._before: dict[int, Manifest] = {}
        self._reported: set[int] = set()
        self._waiting: queue.SimpleQueue[tuple[int, Manifest] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._ended = False
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._report, name="reporting", daemon=True)

    def __enter__(self) -> Published:
        self._before = dict(self._complete(self._partitions))
        self._thread.start()
        return self.published

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            silent = [number for number in self._partitions if number not in self._reported]
            for number, manifest in self._complete(silent):
                if self._before.get(number) != manifest:
                    self._waiting.put((number, manifest))
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None:
            if kind is None:
                raise self._error
            self._say(f"the last partitions could not be reported to Dagster: {self._error}")
        if count := len(self._reported):
            self._say(f"{count:,} partitions reported to Dagster, {self._seconds / count * 1e3:.1f} ms each")

    def published(self, partition: int, manifest: Manifest) -> None:
        """Take note of a partition that is published; it is reported within INTERVAL_S as a rule."""
        if self._error is not None:
            raise self._error
        self._reported.add(partition)
        self._waiting.put((partition, manifest))

    def _report(self) -> None:
        """The thread: reports what waits, at most BATCH at once and about INTERVAL_S after the first of them."""
        try:
            with kept_open(self._step.instance, self._step.run_id):
                while batch := self._next_batch():
                    started = time.monotonic()
                    self._report_all(batch)
                    self._seconds += time.monotonic() - started
        except BaseException as error:  # it belongs to the run's own thread
            self._error = error

    def _next_batch(self) -> list[tuple[int, Manifest]]:
        """What to report next, empty at the end."""
        batch: list[tuple[int, Manifest]] = []
        due = float("inf")
        while len(batch) < BATCH and not self._ended:
            try:
                found = self._waiting.get(timeout=None if not batch else max(0.0, due - time.monotonic()))
            except queue.Empty:
                return batch
            if found is None:
                self._ended = True
            else:
                batch.append(found)
                due = min(due, time.monotonic() + INTERVAL_S)
        return batch

    def _report_all(self, published: list[tuple[int, Manifest]]) -> None:
        batch = generate_event_batch_id()  # type: ignore[no-untyped-call]
        last = len(published) - 1
        for place, (partition, manifest) in enumerate(published):
            made = self._before.get(partition) != manifest
            event = materialization(self._manager, partition, manifest, made)
            DagsterEvent.asset_materialization(self._step, event, DagsterEventBatchMetadata(batch, place == last))

    def _complete(self, partitions: Sequence[int]) -> Iterator[tuple[int, Manifest]]:
        freshness = DatasetStatus(self._manager.dataset)
        for number in partitions:
            state = freshness.state(self._manager.asset, number)
            if state.state is State.COMPLETE and state.manifest is not None:
                yield number, state.manifest


def materialization(
    manager: "PartitionIOManager", partition: int, manifest: Manifest, made: bool
) -> dg.AssetMaterialization:
    """What Dagster is told of a published partition; its data version is the digest of the partition's content."""
    return dg.AssetMaterialization(
        asset_key=asset_key(manager.dataset, manager.asset),
        partition=manifest.key,
        description=None if made else description("complete already: skipped"),
        metadata={"made_by_this_run": dg.MetadataValue.bool(made), **manager.metadata_of(partition, manifest)},
        tags={DATA_VERSION_TAG: manifest.content},
    )


def reported_output(handle: HandleT) -> dg.Output[HandleT]:
    """The output of an asset whose partitions were reported already; its IO manager verifies it as ever."""
    return dg.Output(handle, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})
