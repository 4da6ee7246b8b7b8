"""The schedule `NAME_daily` and the sensor `NAME_new_files` of a dataset. Both are off until they are switched on."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.stage_parts import load_find_changes
from laion_assets.stages.registry import list_stages


def build_schedule(dataset: Dataset, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Return the schedule of the job `NAME_all`. Raises SettingError for a cron expression that Dagster refuses."""
    try:
        return dg.ScheduleDefinition(
            name=f"{dataset.name}_daily",
            job=job,
            cron_schedule=dataset.dagster.schedule,
            execution_timezone="UTC",
            description="Looks at the source again and builds what is missing or out of date.",
            default_status=dg.DefaultScheduleStatus.STOPPED,
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise SettingError(
            f"dagster.schedule is {dataset.dagster.schedule!r}: it is not a valid cron expression. "
            "Write minute, hour, day of the month, month and day of the week, for example 0 3 * * *."
        ) from error


def build_source_sensor(dataset: Dataset, job: dg.JobDefinition) -> dg.SensorDefinition:
    """Return the sensor that lists the source and runs the job `NAME_all` once for each state of changed files."""

    @dg.sensor(
        name=f"{dataset.name}_new_files",
        job=job,
        minimum_interval_seconds=dataset.dagster.source_check_s,
        description="Lists the source. New, changed or deleted files start the job. Nothing is downloaded here.",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    @own_errors_first
    def new_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        (stage,) = (stage for stage in list_stages(dataset) if stage.find_changes)
        changes = load_find_changes(stage)(dataset)
        if not changes:
            return dg.SkipReason("The source has no new, changed or deleted files.")
        if context.cursor == changes.digest:
            return dg.SkipReason(f"The source has {changes}, and a run was requested for them.")
        context.update_cursor(changes.digest)
        return dg.RunRequest()

    return new_files
