"""The jobs of a dataset: `NAME_all` and `NAME_retry_failed`.

A Dagster job over assets cannot have assets with different partitions. So each job is one op: it finds the partitions,
and requests one backfill over all of them. Dagster's daemon runs the backfill in the order of the stages, with the
pools and limits of the instance.
"""

from typing import Any

import dagster as dg
from pydantic import Field

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.automation.due import Due, find_due, find_failed_rows
from laion_assets.orchestration.declaration import asset_key, run_logger
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
Build everything that is missing, stale or damaged, in the order of the stages.

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


def build_jobs(dataset: Dataset) -> list[dg.JobDefinition]:
    """Return the jobs of a dataset, `NAME_all` first."""
    return [_job(dataset, "all", ALL_DESCRIPTION, _all_op(dataset)), *_retry_jobs(dataset)]


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


def _all_op(dataset: Dataset) -> dg.OpDefinition:
    @dg.op(name=f"{dataset.name}_start_all", out=dg.Out(str))
    @own_errors_first
    def start(context: dg.OpExecutionContext, config: AllConfig) -> dg.Output[str]:
        changed = config.check_source and _look_at_source(context, dataset)
        due = find_due(dataset, source_changed=changed, rebuild_changed_settings=config.rebuild_changed_settings)
        return _start(context, dataset, due, None)

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
        run_config = {"ops": {f"{dataset.name}__{stage.name}": {"config": {"retry": reasons}}}}
        return _start(context, dataset, find_failed_rows(dataset, reasons), run_config)

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
    context: dg.OpExecutionContext, dataset: Dataset, due: Due, run_config: dict[str, Any] | None
) -> dg.Output[str]:
    """Start a backfill over the due partitions, unless there are none, or the last one of this job is running."""
    log, tags = run_logger(context), {JOB_TAG: context.job_name}
    if running := running_backfills(context.instance, tags):
        log(f"the backfill {running[0]} of this job is still running: nothing is started")
        return dg.Output(running[0], metadata={"backfill": backfill_link(running[0])})
    if not due:
        log("nothing to do: every partition is complete")
        return dg.Output("")
    for asset, numbers in due.items():
        log(f"{asset}: {len(numbers):,} of {len(find_stage(asset).handle.numbers(dataset.layout)):,} partitions")
    layout = dataset.layout
    backfill = start_backfill(
        context.instance,
        {
            asset_key(dataset, asset): None
            if (definition := partitions_def(dataset, asset)) is None
            else definition.subset_with_partition_keys([find_stage(asset).handle.key(layout, one) for one in numbers])
            for asset, numbers in due.items()
        },
        title=f"{context.job_name}",
        tags=tags,
        run_config=run_config,
    )
    log(f"started the backfill {backfill}")
    counts = {asset: dg.MetadataValue.int(len(numbers)) for asset, numbers in due.items()}
    return dg.Output(backfill, metadata={"backfill": backfill_link(backfill), **counts})
