"""Report each partition of a run to Dagster once, with its own metadata, when it is committed.

By default Dagster reports all partitions of a range when its run succeeds, none when it is killed, and searches all
metadata for each partition. Here a run reports what it has committed every few seconds, in batches, and marks its
output so that Dagster does not report it again. A partition that was complete before is reported, too: its backfill
waits for it. At its end, a run reports the totals over all partitions of the asset (`totals.py`).

A separate thread reports, in parallel with the work: an event takes SQLite several milliseconds, mostly waiting for the
disk.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import dagster as dg

from laion_assets.orchestration.declaration import asset_key, run_logger
from laion_assets.orchestration.private_dagster import (
    DATA_VERSION_TAG,
    get_step_context,
    keep_event_log_open,
    mark_as_reported,
    report_materializations,
)
from laion_assets.orchestration.totals import totals_event
from laion_assets.orchestration.ui.metadata_values import description
from laion_assets.stages.handle import Handle
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import Manifest

if TYPE_CHECKING:
    from laion_assets.orchestration.partition_io import PartitionIOManager

BATCH = 1_000
"""Partitions in one report, at most."""
INTERVAL_S = 3.0
"""How long a committed partition waits for others to be reported with it, about."""

HandleT = TypeVar("HandleT", bound=Handle)
Report = Callable[[int, Manifest], None]
"""Called with a partition's number and its manifest, once it is committed or found complete."""


class Reporting:
    """Reports the committed partitions of a run: `with Reporting(...) as report:` around the work.

    If the work fails or is interrupted, partitions that it committed without a report are looked up and reported. An
    error of Dagster's storage is raised by the next call of `report`, or at the end.
    """

    def __init__(
        self, context: dg.AssetExecutionContext, manager: "PartitionIOManager", partitions: Sequence[int]
    ) -> None:
        self._step = get_step_context(context)
        self._log = run_logger(context)
        self._manager = manager
        self._partitions = partitions
        self._before: dict[int, Manifest] = {}
        self._reported: set[int] = set()
        self._waiting: queue.SimpleQueue[tuple[int, Manifest] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._ended = False
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._report, name="reporting", daemon=True)

    def __enter__(self) -> Report:
        self._before = dict(self._complete(self._partitions))
        self._thread.start()
        return self.report

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            unreported = [number for number in self._partitions if number not in self._reported]
            for number, manifest in self._complete(unreported):
                if self._before.get(number) != manifest:
                    self._waiting.put((number, manifest))
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None:
            if kind is None:
                raise self._error
            self._log(f"the last partitions could not be reported to Dagster: {self._error}")
        if count := len(self._reported):
            noun = "partition" if count == 1 else "partitions"
            self._log(f"{count:,} {noun} reported to Dagster, {self._seconds / count * 1e3:.1f} ms each")

    def report(self, partition: int, manifest: Manifest) -> None:
        """Queue a committed partition; it is usually reported within INTERVAL_S."""
        if self._error is not None:
            raise self._error
        self._reported.add(partition)
        self._waiting.put((partition, manifest))

    def _report(self) -> None:
        """The thread: reports queued partitions, at most BATCH at once and about INTERVAL_S after the first of them."""
        try:
            with keep_event_log_open(self._step.instance, self._step.run_id):
                while batch := self._next_batch():
                    started = time.monotonic()
                    self._report_all(batch)
                    self._seconds += time.monotonic() - started
                if self._reported:
                    # Not an event of the run: in a backfill, Dagster refuses one without a partition.
                    event = totals_event(self._manager.dataset, self._manager.asset)
                    self._step.instance.report_runless_asset_event(event)
        except BaseException as error:  # raised in the run's own thread
            self._error = error

    def _next_batch(self) -> list[tuple[int, Manifest]]:
        """Return the next partitions to report; empty at the end."""
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

    def _report_all(self, committed: list[tuple[int, Manifest]]) -> None:
        report_materializations(
            self._step,
            [
                materialization(self._manager, partition, manifest, self._before.get(partition) != manifest)
                for partition, manifest in committed
            ],
        )

    def _complete(self, partitions: Sequence[int]) -> Iterator[tuple[int, Manifest]]:
        status = DatasetStatus(self._manager.dataset)
        for number in partitions:
            state = status.state(self._manager.asset, number)
            if state.is_complete and state.manifest is not None:
                yield number, state.manifest


def materialization(
    manager: "PartitionIOManager", partition: int, manifest: Manifest, built: bool
) -> dg.AssetMaterialization:
    """The Dagster event of a committed partition; its data version is the digest of the partition's content."""
    return dg.AssetMaterialization(
        asset_key=asset_key(manager.dataset, manager.asset),
        partition=manifest.key,
        description=None if built else description("already complete: skipped"),
        metadata={**manager.build_metadata(partition, manifest), "built_by_this_run": dg.MetadataValue.bool(built)},
        tags={DATA_VERSION_TAG: manifest.content},
    )


def reported_output(handle: HandleT) -> dg.Output[HandleT]:
    """Return the output of an asset whose partitions were reported already; its IO manager still verifies it."""
    return mark_as_reported(handle)
