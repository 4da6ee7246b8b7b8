"""The jobs of a dataset: `NAME_all` and `NAME_retry_failed`.

A Dagster job over assets cannot have assets with different partitions. So each job is one op: it finds the partitions,
and requests one backfill over all of them. Dagster's daemon runs the backfill in the order of the stages, with the
pools and limits of the instance.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.automation.due import Due, find_due, find_failed_rows
from laion_assets.orchestration.declaration import asset_key, op_name, run_logger
from laion_assets.orchestration.partitions import partitions_def
from laion_assets.orchestration.private_dagster import DATA_VERSION_TAG, running_backfills, start_backfill
from laion_assets.orchestration.resources.run_log import run_log
from laion_assets.orchestration.stage_parts import load_find_changes, load_io_manager, load_observe
from laion_assets.orchestration.ui.links import backfill_link
from laion_assets.stages.image_shards.retry_reasons import RETRY_HELP, parse_run_config
from laion_assets.stages.registry import find_stage, list_stages
from laion_assets.store.store import Store

JOB_TAG = "laion_assets/job"
"""The tag of a backfill with the name of its job."""
ALL_DESCRIPTION = """
Build everything that is missing, stale or damaged, in the order of the stages, embedding sets included.

Starts one backfill over these partitions and those that are built from them, and ends; the output has the link to the
backfill. Complete partitions inside a range are skipped. Starts nothing while the last backfill of this job is running,
and refuses partitions that were built with other settings.
"""
RETRY_DESCRIPTION = """
Fetch failed rows of complete shards again.

Starts one backfill over the shards with rows that failed for the given reasons, and ends; the output has the link to
the backfill. Images in the shards keep their bytes. Then `{name}_all` brings the later stages up to date.
"""


class AllConfig(dg.Config):
    """The run config of `NAME_all`."""

    check_source: bool = Field(
        True, description="List the source first. If it has new, changed or deleted files, fetch them and rebuild."
    )
    rebuild_changed_settings: bool = Field(
        False,
        description="Rebuild partitions that were built with other settings, which fetches or encodes again.",
    )


class RetryConfig(dg.Config):
    """The run config of `NAME_retry_failed`."""

    retry: Any = Field("retryable", description=RETRY_HELP)


def build_jobs(dataset: Dataset, sets: Sequence[Dataset] = ()) -> list[dg.JobDefinition]:
    """Return the jobs of a dataset and its embedding sets, `NAME_all` first."""
    return [_job(dataset, "all", ALL_DESCRIPTION, _all_op(dataset, sets)), *_retry_jobs(dataset)]


def _job(dataset: Dataset, name: str, description: str, op: dg.OpDefinition) -> dg.JobDefinition:
    @dg.job(
        name=f"{dataset.name}_{name}",
        description=description.format(name=dataset.name),
        executor_def=dg.in_process_executor,
        logger_defs={"console": run_log},
        tags=dataset.dagster.tags,
    )
    def job() -> None:
        op()

    return job


def _all_op(dataset: Dataset, sets: Sequence[Dataset]) -> dg.OpDefinition:
    @dg.op(name=f"{dataset.name}_start_all", out=dg.Out(str))
    @own_errors_first
    def start(context: dg.OpExecutionContext, config: AllConfig) -> dg.Output[str]:
        changed = config.check_source and _look_at_source(context, dataset)
        rebuild = config.rebuild_changed_settings
        due = [
            (each, find_due(each, source_changed=changed, rebuild_changed_settings=rebuild))
            for each in (dataset, *sets)
        ]
        return _start(context, due, None)

    return start


def _retry_jobs(dataset: Dataset) -> list[dg.JobDefinition]:
    stage = next((stage for stage in list_stages(dataset) if stage.can_retry_rows), None)
    if stage is None:
        return []

    @dg.op(name=f"{dataset.name}_start_retry", out=dg.Out(str))
    @own_errors_first
    def start(context: dg.OpExecutionContext, config: RetryConfig) -> dg.Output[str]:
        reasons = list(parse_run_config(config.retry))
        if not reasons:
            raise SettingError("retry names no reason. Use failed, retryable, or a list of reasons.")
        run_config = {"ops": {op_name(dataset, stage.name): {"config": {"retry": reasons}}}}
        return _start(context, [(dataset, find_failed_rows(dataset, reasons))], run_config)

    return [_job(dataset, "retry_failed", RETRY_DESCRIPTION, start)]


def _look_at_source(context: dg.OpExecutionContext, dataset: Dataset) -> bool:
    """List the source, and return whether it changed. Files of others are observed, which makes later stages stale."""
    store, log = Store.of(dataset), run_logger(context)
    for stage in list_stages(dataset):
        if not stage.find_changes:
            continue
        changes = load_find_changes(stage)(dataset)
        log(f"source of {stage.name}: {changes}")
        if not stage.is_observed:
            return bool(changes)
        if changes:
            manifest = load_observe(stage)(dataset, store, log)
            context.log_event(
                dg.AssetObservation(
                    asset_key(dataset, stage.name),
                    metadata=load_io_manager(stage, dataset).build_metadata(0, manifest),
                    tags={DATA_VERSION_TAG: manifest.content},
                )
            )
    return False


def _start(
    context: dg.OpExecutionContext, found: Sequence[tuple[Dataset, Due]], run_config: dict[str, Any] | None
) -> dg.Output[str]:
    """Start a backfill over the due partitions, unless there are none, or the last one of this job is running.

    The due partitions of an embedding set include those of the assets of its dataset.
    """
    log, tags = run_logger(context), {JOB_TAG: context.job_name}
    if running := running_backfills(context.instance, tags):
        log(f"the backfill {running[0]} of this job is still running: nothing is started")
        return dg.Output(running[0], metadata={"backfill": backfill_link(running[0])})
    due = {asset_key(dataset, asset): (dataset, asset, due[asset]) for dataset, due in found for asset in due}
    if not due:
        log("nothing to do: every partition is complete")
        return dg.Output("")
    partitions, counts = dict[dg.AssetKey, Any](), dict[str, dg.MetadataValue]()
    for key, (dataset, asset, numbers) in due.items():
        handle, definition = find_stage(asset).handle, partitions_def(dataset, asset)
        keys = [handle.key(dataset.layout, number) for number in numbers]
        partitions[key] = None if definition is None else definition.subset_with_partition_keys(keys)
        name = asset if dataset is found[0][0] else key.to_user_string()
        counts[name] = dg.MetadataValue.int(len(numbers))
        log(f"{name}: {len(numbers):,} of {len(handle.numbers(dataset.layout)):,} partitions")
    backfill = start_backfill(context.instance, partitions, title=context.job_name, tags=tags, run_config=run_config)
    log(f"started the backfill {backfill}")
    return dg.Output(backfill, metadata={"backfill": backfill_link(backfill), **counts})
