"""Making many shards: one task a shard in the worker pool, progress in shards and images a second."""

import os
from collections.abc import Callable, Sequence

from laion_assets.datasets import Dataset
from laion_assets.images.outcome import ShardOutcome
from laion_assets.images.shard_task import ShardTask
from laion_assets.images.worker_pool import run_shards
from laion_assets.progress import Progress


def build_image_shards(
    dataset: Dataset, shards: Sequence[int], say: Callable[[str], None]
) -> tuple[list[int], dict[str, str]]:
    """Make these shards; complete ones are skipped. Each is published the moment it is done.

    Returns the shards that are complete now, in order, and for the others why they failed, by key.
    """
    layout = dataset.layout
    progress = Progress(say, "shards", len(shards), "images")
    done: list[int] = []
    skipped = 0

    def finished(outcome: ShardOutcome) -> None:
        nonlocal skipped
        done.append(outcome.shard)
        skipped += outcome.skipped
        pictures = 0 if outcome.skipped else outcome.manifest.counts.rows_in
        progress.add(1, pictures, f"{skipped} were complete already" if skipped else "")

    tasks = [ShardTask(dataset, shard) for shard in shards]
    failures = run_shards(tasks, dataset.images.processes or os.cpu_count() or 1, finished)
    return sorted(done), {layout.shard_key(failure.shard): failure.message for failure in failures}
