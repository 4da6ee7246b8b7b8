"""Which partitions a job must run: those that are not complete, and all that are built from them."""

from collections.abc import Iterable

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LaionAssetsError
from laion_assets.orchestration.partitions import covering_ranges
from laion_assets.stages.image_shards.retry_reasons import reasons_of_shard
from laion_assets.stages.registry import list_stages
from laion_assets.stages.stage import Stage
from laion_assets.stages.status import SETTINGS_CHANGED, DatasetStatus

Due = dict[str, tuple[int, ...]]
"""Partition numbers by asset, both in order. Assets without due partitions are left out."""


def find_due(dataset: Dataset, *, source_changed: bool = False, rebuild_changed_settings: bool = False) -> Due:
    """Return the partitions of every stage that are missing, stale or damaged, and those that are built from them.

    With `source_changed`, the source is due, and so is everything. Observed stages are left out: a run makes none of
    their files. Gaps between due partitions are filled, as few runs as possible cover them, and a run skips complete
    partitions. Raises LaionAssetsError if partitions were built with other settings, unless `rebuild_changed_settings`.
    """
    status, found = DatasetStatus(dataset), dict[str, set[int]]()
    for stage in list_stages(dataset):
        states = dict(zip(stage.handle.numbers(dataset.layout), status.states(stage.name), strict=True))
        changed = [state.key for state in states.values() if state.reason == SETTINGS_CHANGED]
        if changed and not rebuild_changed_settings:
            raise LaionAssetsError(
                f"{len(changed):,} partitions of {dataset.name}/{stage.name} were built with other settings, the first "
                f"one is {changed[0]}. Nothing was started. Set the settings back, or launch this job with "
                "rebuild_changed_settings: true to build these partitions again."
            )
        own = {number for number, state in states.items() if not state.is_complete}
        if stage.upstream is None and source_changed:
            own = set(states)
        found[stage.name] = own | _built_from_due(dataset, stage, found)
    return {
        stage.name: fill_gaps(dataset, stage, found[stage.name])
        for stage in list_stages(dataset)
        if found[stage.name] and not stage.is_observed
    }


def find_failed_rows(dataset: Dataset, reasons: Iterable[str]) -> Due:
    """Return the complete partitions with rows that failed for one of these reasons, gaps filled."""
    status, wanted = DatasetStatus(dataset), tuple(reasons)
    found = {}
    for stage in list_stages(dataset):
        if stage.can_retry_rows:
            states = zip(stage.handle.numbers(dataset.layout), status.states(stage.name), strict=True)
            numbers = {
                number
                for number, state in states
                if state.is_complete and state.manifest and reasons_of_shard(dataset, state.manifest, wanted)
            }
            if numbers:
                found[stage.name] = fill_gaps(dataset, stage, numbers)
    return found


def fill_gaps(dataset: Dataset, stage: Stage, numbers: Iterable[int]) -> tuple[int, ...]:
    """Return the numbers and those between them, in as few ranges of at most one run as cover them.

    Dagster starts a run for each contiguous range: a thousand scattered partitions would be a thousand runs.
    """
    ranges = covering_ranges(sorted(numbers), stage.run_size(dataset))
    return tuple(number for first, last in ranges for number in range(first, last + 1))


def _built_from_due(dataset: Dataset, stage: Stage, found: dict[str, set[int]]) -> set[int]:
    """Return the partitions of a stage whose inputs are due."""
    before = None if stage.upstream is None else found[stage.upstream(dataset).name]
    numbers = stage.handle.numbers(dataset.layout)
    if not before:
        return set()
    if stage.reads is None:
        return set(numbers)
    return {number for number in numbers if not before.isdisjoint(stage.reads(dataset.layout, number))}
