"""Making many shards: one task a shard in the worker pool, progress in shards and images a second."""

from collections.abc import Callable, Sequence

from laion_assets.commit.manifest import Manifest
from laion_assets.datasets import Dataset
from laion_assets.errors import ShardError
from laion_assets.images.outcome import ShardOutcome
from laion_assets.images.shard_task import ShardTask
from laion_assets.images.worker_pool import run_shards
from laion_assets.progress import Progress

_NAMED_FAILURES = 10


def build_image_shards(
    dataset: Dataset,
    shards: Sequence[int],
    say: Callable[[str], None],
    published: Callable[[int, Manifest], None] = lambda shard, manifest: None,
) -> None:
    """Make these shards, each published the moment it is done; complete ones are skipped.

    `published` is called for each, in this thread, with its number and its manifest. A shard that fails does not stop
    the others. Raises ShardError at the end, naming those that failed and why.
    """
    progress = Progress(say, "shards", len(shards), "images")
    skipped = 0

    def finished(outcome: ShardOutcome) -> None:
        nonlocal skipped
        skipped += outcome.skipped
        published(outcome.shard, outcome.manifest)
        note = f"{skipped} were complete already" if skipped else ""
        progress.add(1, 0 if outcome.skipped else outcome.rows, note)

    tasks = [ShardTask(dataset, shard) for shard in shards]
    failures = run_shards(tasks, dataset.images.processes, finished)
    if failures:
        named = "; ".join(f"{failure.key}: {failure.message}" for failure in failures[:_NAMED_FAILURES])
        raise ShardError(
            f"{len(failures)} of {len(shards)} shards of {dataset.name} failed, the others are published: {named}"
            f"{' ...' if len(failures) > _NAMED_FAILURES else ''} Run the same partitions again: complete ones are "
            "skipped."
        )
