"""Dagster runs started from a shell or a script, in the instance that the Dagster UI shows.

Runs cover the partitions that are not complete in as few ranges as possible; they skip complete partitions inside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.resolution import resolve_settings
from laion_assets.errors import LaionAssetsError, LayoutError
from laion_assets.failures import explain, is_interrupt
from laion_assets.orchestration.code_locations import MODULE, location_name
from laion_assets.orchestration.declaration import asset_key, op_name
from laion_assets.orchestration.instance import instance
from laion_assets.orchestration.partitions import covering_ranges
from laion_assets.orchestration.private_dagster import output_mirrors_in_own_groups, runs_in_code_location
from laion_assets.orchestration.writable_folders import require_root
from laion_assets.stages.image_shards.retry_reasons import reasons_of_shard
from laion_assets.stages.kept_rows import require_rows
from laion_assets.stages.registry import find_stage, stage_names
from laion_assets.stages.status import DatasetStatus, PartitionState
from laion_assets.store.store import owner_of

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo


@dataclass(frozen=True)
class StageReport:
    """Result of a stage: its partitions, the number that were run, and rows in, out and dropped over all partitions."""

    asset: str
    partitions: int
    ran: int
    rows_in: int
    rows_out: int
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)
    run_ids: tuple[str, ...] = ()


def materialize(
    dataset: Dataset,
    assets: Sequence[str] | None = None,
    within: range | None = None,
    on_report: Callable[[StageReport], None] = lambda report: None,
    retry: tuple[str, ...] = (),
    *,
    source_changed: bool = False,
    refresh: bool = True,
) -> list[StageReport]:
    """Run the incomplete partitions of these assets (all if None), in order, in the instance of `dagster_home()`.

    With `within`, only partitions of these numbers. With `retry`, reasons of failed rows, `image_shards` runs only over
    complete shards that have such rows. `source_changed` fetches the source again although its files are complete.
    Without `refresh`, published files are observed only if they never were. `on_report` is called after each asset.
    Raises LaionAssetsError if a run fails; committed partitions are kept, and a second call continues from there.
    """
    from laion_assets.orchestration.definitions import build_definitions

    definitions = build_definitions(dataset)
    dataset = resolve_settings(dataset)
    require_root(dataset)
    reports = []
    location = location_name(dataset)
    with instance() as opened, output_mirrors_in_own_groups(), runs_in_code_location(opened, MODULE, location):
        for asset in stage_names(dataset) if assets is None else assets:
            reasons = retry if find_stage(asset).can_retry_rows else ()
            report = materialize_stage(
                dataset, definitions, asset, opened, within, reasons, source_changed=source_changed, refresh=refresh
            )
            reports.append(report)
            on_report(reports[-1])
    return reports


def materialize_stage(
    dataset: Dataset,
    definitions: dg.Definitions,
    asset: str,
    opened: dg.DagsterInstance,
    within: range | None = None,
    retry: tuple[str, ...] = (),
    *,
    source_changed: bool = False,
    refresh: bool = True,
) -> StageReport:
    """Run the incomplete partitions of one asset, or those to retry; see `materialize`."""
    stage = find_stage(asset)
    numbers = stage.handle.numbers(dataset.layout)
    if within is not None and not (within[0] in numbers and within[-1] in numbers):
        raise LayoutError(
            f"{dataset.name}/{asset} has the partitions {numbers[0]}..{numbers[-1]}, not {within[0]}..{within[-1]}."
        )
    before = dict(zip(numbers, DatasetStatus(dataset).states(asset), strict=True))
    todo = [number for number, state in before.items() if _is_due(dataset, state, retry)]
    todo = [number for number in todo if within is None or number in within]
    if (stage.is_observed and refresh) or (stage.upstream is None and source_changed):
        todo = list(numbers)
    if not todo and not retry:
        require_rows(dataset, asset)  # as a run does
    job = definitions.resolve_implicit_global_asset_job_def()
    run_ids = []
    for first, last in covering_ranges(todo, stage.run_size(dataset)):
        tags = _range_tags(before[first], before[last]) if stage.is_partitioned else {}
        result = job.execute_in_process(
            instance=opened,
            asset_selection=[asset_key(dataset, asset)],
            tags=tags,
            run_config=_run_config(dataset, asset, retry),
            raise_on_error=False,
        )
        run_ids.append(result.run_id)
        if not result.success:
            error = _first_error(result)
            if error is not None and is_interrupt(error):
                raise KeyboardInterrupt
            why = "see its log in the Dagster UI." if error is None else explain(error)
            raise LaionAssetsError(f"{owner_of(dataset, asset)}/{asset} failed in run {result.run_id}: {why}")
        checks = result.get_asset_check_evaluations()
        failed = [check for check in checks if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR]
        if failed:
            raise LaionAssetsError(
                f"{owner_of(dataset, asset)}/{asset} is committed and its check {failed[0].check_name} failed: "
                f"{failed[0].description}. Run {result.run_id} in the Dagster UI names the problems."
            )
    return _report(dataset, asset, len(todo), tuple(run_ids), opened)


def _is_due(dataset: Dataset, state: PartitionState, retry: tuple[str, ...]) -> bool:
    if not retry:
        return not state.is_complete
    return state.is_complete and state.manifest is not None and bool(reasons_of_shard(dataset, state.manifest, retry))


def _run_config(dataset: Dataset, asset: str, retry: tuple[str, ...]) -> dict[str, Any]:
    config: dict[str, Any] = {"loggers": {"console": {}}}
    if retry:
        config["ops"] = {op_name(dataset, asset): {"config": {"retry": list(retry)}}}
    return config


def _range_tags(first: PartitionState, last: PartitionState) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first.key,
        "dagster/asset_partition_range_end": last.key,
    }


def _first_error(result: dg.ExecuteInProcessResult) -> "SerializableErrorInfo | None":
    """Return the error of the step that failed first."""
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error is not None:
            return event.step_failure_data.error
    return None


def _report(
    dataset: Dataset, asset: str, ran: int, run_ids: tuple[str, ...], opened: dg.DagsterInstance
) -> StageReport:
    states = DatasetStatus(dataset).states(asset)
    rows_in = rows_out = 0
    reasons: dict[str, int] = {}
    for state in states:
        if state.manifest is not None:
            counts = state.manifest.counts
            rows_in += counts.rows_in
            rows_out += counts.rows_out
            for reason, count in counts.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + count
    seconds = 0.0
    for run_id in run_ids:
        stats = opened.get_run_stats(run_id)
        seconds += (stats.end_time or 0.0) - (stats.start_time or 0.0)
    return StageReport(asset, len(states), ran, rows_in, rows_out, seconds, reasons, run_ids)
