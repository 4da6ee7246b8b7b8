"""The peer: the same graph over the same rows, with Dagster's defaults and one run per partition."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets_tests.end_to_end.dagster_ui import DagsterPage, dagster_page

ROWS = ("raw_csv", "dedup_parquet", "dedup_rejects", "manifests/raw_csv", "manifests/dedup_parquet")
_RUNS = """query Runs($backfill: String!) { runsOrError(filter: {tags: [{key: "dagster/backfill", value: $backfill}]}) {
  ... on Runs { results { status startTime endTime } } } }"""


def peer_seconds_per_partition(built: Path, home: Path, dataset: Dataset, partitions: int) -> float:
    """Return the seconds per shard, from the start of the first run to the end of the last one.

    `built` is a home whose rows are hard-linked. Raises RuntimeError if a run fails.
    """
    for name in ROWS:
        shutil.copytree(
            built / "data" / dataset.name / name,
            home / "data" / dataset.name / name,
            copy_function=os.link,
            dirs_exist_ok=True,
        )
    layout = dataset.layout
    keys = [layout.shard_key(place * layout.shards // partitions) for place in range(partitions)]
    with _run_defaults(home, dataset) as page:
        backfill = page.backfill(dataset.name, [IMAGE_SHARDS], keys)
        status = page.wait_for_backfill(backfill, 120 + 30 * partitions)
        runs = page.graphql(_RUNS, backfill=backfill)["runsOrError"]["results"]
    if status != "COMPLETED_SUCCESS" or len(runs) != partitions:
        raise RuntimeError(f"the peer's backfill ended as {status} with {len(runs)} runs for {partitions} partitions")
    return (max(run["endTime"] for run in runs) - min(run["startTime"] for run in runs)) / partitions


@contextmanager
def _run_defaults(home: Path, dataset: Dataset) -> Iterator[DagsterPage]:
    """Run `dagster dev` with a default instance and one partition per run."""
    instance = home / "dagster_home"
    instance.mkdir(parents=True)
    (instance / "dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n", encoding="utf-8")
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("DAGSTER_")]:
            del os.environ[name]
        with dagster_page(home, **{f"LAION_ASSETS_{dataset.name.upper()}_IMAGES_SHARDS_PER_RUN": "1"}) as page:
            yield page
