"""A user project over the tiny dataset: a sensor, a schedule and automation that name one partition each.

A code location of the tests: `dagster dev -f` loads it. TINY_FOLDER and TINY_RESOLVE locate the dataset.
"""

import json
import os
from pathlib import Path

import dagster as dg

from laion_assets.definitions import build_definitions
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets_tests.tiny_dataset import tiny_dataset

DATASET = tiny_dataset(Path(os.environ["TINY_FOLDER"]), json.loads(os.environ["TINY_RESOLVE"]))
SHARDS = dg.AssetKey([DATASET.name, IMAGE_SHARDS])
EMBEDDINGS = dg.AssetKey([DATASET.name, CLIP_EMBEDDINGS])
SENSOR_SHARD, SCHEDULE_SHARD = "00001", "00002"


@dg.sensor(asset_selection=[SHARDS], minimum_interval_seconds=1)
def one_shard_sensor() -> dg.RunRequest:
    """Ask for one shard, once."""
    return dg.RunRequest(run_key="sensor", partition_key=SENSOR_SHARD)


@dg.schedule(cron_schedule="* * * * *", target=[SHARDS])
def one_shard_schedule() -> dg.RunRequest:
    """Ask for one shard, once."""
    return dg.RunRequest(run_key="schedule", partition_key=SCHEDULE_SHARD)


def automated(spec: dg.AssetSpec) -> dg.AssetSpec:
    """Make embedding files that are missing, as soon as their shards are there."""
    missing = dg.AutomationCondition.missing() & ~dg.AutomationCondition.in_progress()
    if spec.key != EMBEDDINGS:
        return spec
    return spec.replace_attributes(automation_condition=missing & ~dg.AutomationCondition.any_deps_missing())


defs = dg.Definitions.merge(
    build_definitions(DATASET).map_asset_specs(func=automated),
    dg.Definitions(
        sensors=[
            one_shard_sensor,
            dg.AutomationConditionSensorDefinition("automation", target=[EMBEDDINGS], minimum_interval_seconds=1),
        ],
        schedules=[one_shard_schedule],
    ),
)
