"""Run one stage of the hostile dataset as a Dagster run.

`python -m laion_assets_tests.hostile.stage FOLDER ASSET healthy|hostile`
"""

import sys
from dataclasses import replace
from pathlib import Path

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.settings.spark import SparkSettings
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.raw_csv.settings import CsvSettings

DOWNLOADS = 8
MAX_FILE_BYTES = 8_000_000
MAX_RUN_BYTES = 150_000_000
MAX_BODY_BYTES = 1_000_000
MAX_BYTES_IN_FLIGHT = 20_000_000
SHARDS = 4
HEALTHY, HOSTILE = "healthy", "hostile"


def hostile_dataset(folder: Path, healthy: bool) -> Dataset:
    """Return the dataset of the hostile crawl, with limits that hostile responses exceed.

    Without `healthy` hosts the detection of local failures is off, because it would take such a web for one.
    """
    return replace(
        SAMPLE,
        name="hostile",
        root=str(folder / "data"),
        source="http://crawl.test/csv/",
        layout=Layout(parquet_files=2, shards=SHARDS, embedding_files=1, rows_per_shard=1_000),
        csv=CsvSettings(
            timeout_s=3.0,
            retries=1,
            downloads=DOWNLOADS,
            connections_per_host=DOWNLOADS,
            max_file_bytes=MAX_FILE_BYTES,
            max_run_bytes=MAX_RUN_BYTES,
        ),
        spark=SparkSettings(driver_memory="1g"),
        min_kept_share=0.0,
        images=ImageSettings(
            fetch=FetchPolicy(
                connect_timeout_s=3.0,
                deadline_s=8.0,
                max_body_bytes=MAX_BODY_BYTES,
                max_bytes_in_flight=MAX_BYTES_IN_FLIGHT,
            ),
            max_pixels=20_000_000,
            processes=2,
            threads=32,
            refuse_local_failures=healthy,
        ),
    )


if __name__ == "__main__":
    from laion_assets.orchestration.runs import materialize

    materialize(hostile_dataset(Path(sys.argv[1]), sys.argv[3] == HEALTHY), [sys.argv[2]], on_report=print)
