"""Making many shards: one task a shard, in the worker pool or in Spark; progress in shards and images a second."""

from collections.abc import Callable, Sequence
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import LocalFailureError, SettingError, ShardError
from laion_assets.progress import Progress
from laion_assets.stages.handles import IMAGE_SHARDS
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.image_shards.workers.outcome import ShardFailure, ShardOutcome
from laion_assets.stages.image_shards.workers.pool import run_shards
from laion_assets.stages.image_shards.workers.spark_tasks import run_shards_in_spark
from laion_assets.stages.status import DatasetStatus, PartitionState
from laion_assets.store.manifest import Manifest

_NAMED_FAILURES = 10


def build_image_shards(
    dataset: Dataset,
    shards: Sequence[int],
    log: Callable[[str], None],
    published: Callable[[int, Manifest], None] = lambda shard, manifest: None,
    retry: tuple[str, ...] = (),
    spark: Callable[[], Any] | None = None,
) -> None:
    """Make these shards, each published the moment it is done; complete ones are skipped.

    With `retry`, values of Reason, complete ones get their rows that failed so fetched again. `spark` gives the
    session that runs the tasks where `images.distributor` is spark. `published` is called
    for each, in this thread, with its number and its manifest. A shard that fails does not stop the others, but
    `images.local_failure_shards` in a row that are refused for a local failure do. Raises ShardError at the end, naming
    those that failed and why, LocalFailureError where some were refused.
    """
    progress = Progress(log, "shards", len(shards), "images")
    skipped = retried = recovered = refused_in_a_row = 0

    def failed(failure: ShardFailure) -> None:
        nonlocal refused_in_a_row
        failures.append(failure)
        if failure.kind == LocalFailureError.__name__:
            log(failure.message)
            refused_in_a_row += 1
            if refused_in_a_row >= dataset.images.local_failure_shards:
                raise _StopError

    def finished(outcome: ShardOutcome) -> None:
        nonlocal skipped, retried, recovered, refused_in_a_row
        refused_in_a_row = refused_in_a_row if outcome.skipped else 0
        skipped += outcome.skipped
        retried += outcome.retried
        recovered += outcome.recovered
        published(outcome.shard, outcome.manifest)
        notes = [f"{skipped} were complete already"] if skipped and not retry else []
        notes += [f"{recovered:,} of {retried:,} retried rows have a picture now"] if retried else []
        progress.add(1, 0 if outcome.skipped else outcome.retried or outcome.rows, ", ".join(notes))

    if retry:
        log(_announcement(dataset, shards, retry))
    tasks = [ShardTask(dataset, ShardNumber(shard), retry=retry) for shard in shards]
    failures: list[ShardFailure] = []
    stopped = False
    try:
        if dataset.images.distributor == "spark":
            if spark is None:
                raise SettingError("images.distributor is spark, and no Spark session was given: set it to pool.")
            run_shards_in_spark(tasks, spark(), finished, failed)
        else:
            run_shards(tasks, dataset.images.processes, finished, failed)
    except _StopError:
        stopped = True
    failures.sort(key=lambda failure: failure.shard)
    refused = [failure for failure in failures if failure.kind == LocalFailureError.__name__]
    if refused:
        raise LocalFailureError(
            f"The run of {dataset.name}/{IMAGE_SHARDS} is incomplete{' and stopped early' if stopped else ''}: "
            f"{len(refused)} of {len(shards)} shards failed because of a local failure, shard {refused[0].key} first: "
            f"{refused[0].message.partition(': ')[2]}. {_others(failures, refused)}Then run the same partitions again: "
            "complete ones are skipped."
        )
    if failures:
        named = "; ".join(f"{failure.key}: {failure.message}" for failure in failures[:_NAMED_FAILURES])
        raise ShardError(
            f"{len(failures)} of {len(shards)} shards of {dataset.name} failed, the others are published: {named}"
            f"{' ...' if len(failures) > _NAMED_FAILURES else ''} Run the same partitions again: complete ones are "
            "skipped."
        )


class _StopError(Exception):
    """Ends the workers of a run whose machine or network has a fault."""


def _others(failures: list[ShardFailure], refused: list[ShardFailure]) -> str:
    others = [failure for failure in failures if failure not in refused]
    if not others:
        return ""
    return f"{len(others)} others failed: {'; '.join(map(str, others[:_NAMED_FAILURES]))}. "


def _announcement(dataset: Dataset, shards: Sequence[int], retry: tuple[str, ...]) -> str:
    """What is about to be retried, as the manifests have it."""
    counts = [state.manifest.counts for state in map(_state_of(dataset), shards) if state.manifest is not None]
    wanted = [sum(one.reasons.get(reason, 0) for reason in retry) for one in counts]
    return (
        f"retrying {sum(wanted):,} of {sum(one.rows_in for one in counts):,} rows, in "
        f"{sum(map(bool, wanted)):,} of {len(shards):,} shards"
    )


def _state_of(dataset: Dataset) -> Callable[[int], PartitionState]:
    freshness = DatasetStatus(dataset)
    return lambda shard: freshness.state(IMAGE_SHARDS, shard)
