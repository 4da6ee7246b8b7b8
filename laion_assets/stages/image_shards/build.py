"""Build many shards: one task per shard, in the worker pool or in Spark. Logs shards and images per second."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import LocalFailureError, SettingError, ShardError
from laion_assets.progress import Progress
from laion_assets.stages.image_shards.advice import advise
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.retry_reasons import reasons_of_shard
from laion_assets.stages.image_shards.shard.outcome import ShardOutcome
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus, PartitionState
from laion_assets.store.manifest import Manifest
from laion_assets.workers.pool import run_tasks
from laion_assets.workers.spark_tasks import run_tasks_in_spark
from laion_assets.workers.task import TaskFailure

_NAMED_FAILURES = 10
_MEMORY_ADVICE = "lower images.threads"


def build_image_shards(
    dataset: Dataset,
    shards: Sequence[int],
    log: Callable[[str], None],
    on_commit: Callable[[int, Manifest], None] = lambda shard, manifest: None,
    retry: tuple[str, ...] = (),
    spark: Callable[[], Any] | None = None,
) -> None:
    """Build these shards. Each is committed as soon as it is done; complete shards are skipped.

    With `retry` (values of Reason), the rows of complete shards that failed for these reasons are fetched again.
    `spark` returns the session that runs the tasks if `images.distributor` is spark. `on_commit` is called for each
    shard, in this thread, with its number and manifest. If a shard fails, the others continue, but the run stops after
    `images.local_failure_shards` consecutive local failures. At the end raises ShardError with the failed shards and
    the reasons, or LocalFailureError if there were local failures.
    """
    progress = Progress(log, "shards", len(shards), "images")
    skipped = retried = recovered = kept = consecutive_local_failures = 0
    reasons: Counter[str] = Counter()

    def on_failure(failure: TaskFailure) -> None:
        nonlocal consecutive_local_failures
        failures.append(failure)
        if failure.kind == LocalFailureError.__name__:
            log(failure.message)
            consecutive_local_failures += 1
            if consecutive_local_failures >= dataset.images.local_failure_shards:
                raise _StopError

    def on_done(outcome: ShardOutcome) -> None:
        nonlocal skipped, retried, recovered, kept, consecutive_local_failures
        consecutive_local_failures = consecutive_local_failures if outcome.skipped else 0
        skipped += outcome.skipped
        retried += outcome.retried
        recovered += outcome.recovered
        kept += outcome.manifest.counts.rows_out
        reasons.update(outcome.manifest.counts.reasons)
        on_commit(outcome.shard, outcome.manifest)
        notes = [f"{skipped} already complete"] if skipped and not retry else []
        notes += [f"{recovered:,} of {retried:,} retried rows have an image now"] if retried else []
        progress.add(1, 0 if outcome.skipped else outcome.retried or outcome.rows, ", ".join(notes))

    if retry:
        log(_describe_retry(dataset, shards, retry))
    tasks = [ShardTask(dataset, ShardNumber(shard), retry=retry) for shard in shards]
    failures: list[TaskFailure] = []
    stopped = False
    try:
        if dataset.images.distributor == "spark":
            if spark is None:
                raise SettingError("images.distributor is spark, but there is no Spark session. Set it to pool.")
            run_tasks_in_spark(
                tasks, spark(), on_done, on_failure, name=IMAGE_SHARDS, memory_advice=_MEMORY_ADVICE, log=log
            )
        else:
            run_tasks(tasks, dataset.images.processes, on_done, on_failure, memory_advice=_MEMORY_ADVICE)
    except _StopError:
        stopped = True
    if kept and (advice := advise(dataset, reasons)):  # a stage without images fails with the same advice
        log(advice)
    failures.sort(key=lambda failure: failure.number)
    local = [failure for failure in failures if failure.kind == LocalFailureError.__name__]
    if local:
        raise LocalFailureError(
            f"The run of {dataset.name}/{IMAGE_SHARDS} is incomplete{' and stopped early' if stopped else ''}: "
            f"{len(local)} of {len(shards)} shards were not committed because of local failures, first shard "
            f"{local[0].key}: {local[0].message.partition(': ')[2]}. {_describe_others(failures, local)}"
            "Then run the same partitions again: complete shards are skipped."
        )
    if failures:
        named = "; ".join(f"{failure.key}: {failure.message}" for failure in failures[:_NAMED_FAILURES])
        raise ShardError(
            f"{len(failures)} of {len(shards)} shards of {dataset.name} failed, the others are committed: {named}"
            f"{' ...' if len(failures) > _NAMED_FAILURES else ''} Run the same partitions again: complete shards are "
            "skipped."
        )


class _StopError(Exception):
    """Stops the workers of a run after too many local failures."""


def _describe_others(failures: list[TaskFailure], local: list[TaskFailure]) -> str:
    others = [failure for failure in failures if failure not in local]
    if not others:
        return ""
    return f"{len(others)} other shards failed: {'; '.join(map(str, others[:_NAMED_FAILURES]))}. "


def _describe_retry(dataset: Dataset, shards: Sequence[int], retry: tuple[str, ...]) -> str:
    """Return a log line with the number of rows to retry, counted from the manifests."""
    manifests = [state.manifest for state in map(_state_reader(dataset), shards) if state.manifest is not None]
    retried = [sum(each.counts.reasons[name] for name in reasons_of_shard(dataset, each, retry)) for each in manifests]
    return (
        f"retrying {sum(retried):,} of {sum(each.counts.rows_in for each in manifests):,} rows, in "
        f"{sum(map(bool, retried)):,} of {len(shards):,} shards"
    )


def _state_reader(dataset: Dataset) -> Callable[[int], PartitionState]:
    status = DatasetStatus(dataset)
    return lambda shard: status.state(IMAGE_SHARDS, shard)
