"""Automation conditions of the assets, for the setting `dagster.automation`, and the sensor that evaluates them."""

from collections.abc import Sequence

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.stage import Stage

INTERVAL_S = 30
"""How often the conditions are evaluated."""


def automation_condition(dataset: Dataset, stage: Stage) -> dg.AutomationCondition | None:
    """Return when Dagster starts a run of a stage by itself; None for never, and for files of others.

    Differs from Dagster's own `eager` and `on_missing`: partitions that are missing when automation is switched on are
    built, too. Each partition is requested once. After a failed run it is requested again only when its inputs change,
    so that a run that keeps failing is not repeated every INTERVAL_S.
    """
    if dataset.dagster.automation == "none" or stage.is_observed:
        return None
    condition = dg.AutomationCondition
    waiting = condition.any_deps_in_progress() | condition.in_progress()
    ready = condition.missing() & ~condition.any_deps_missing()
    due = ready.newly_true() | (ready & condition.initial_evaluation())
    if dataset.dagster.automation == "eager":
        due = due | condition.any_deps_updated()
    handled = condition.newly_requested() | condition.newly_updated()
    return (due.since(handled) & ~condition.any_deps_missing() & ~waiting).with_label(dataset.dagster.automation)


def build_automation_sensors(dataset: Dataset, keys: Sequence[dg.AssetKey]) -> list[dg.SensorDefinition]:
    """Return the sensor `NAME_automation` of these assets, which is on; none without automation."""
    if dataset.dagster.automation == "none":
        return []
    return [
        dg.AutomationConditionSensorDefinition(
            f"{dataset.name}_automation",
            target=keys,
            minimum_interval_seconds=INTERVAL_S,
            default_status=dg.DefaultSensorStatus.RUNNING,
            description=f"Starts runs because the setting dagster.automation is {dataset.dagster.automation}.",
        )
    ]
