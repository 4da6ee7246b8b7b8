"""The stage `raw_csv`: the crawl CSVs."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.raw_csv.handle import RawCsv
from laion_assets.stages.stage import Stage

DESCRIPTION = """
Download the crawl's CSV files.

One row for each image found on a web page, with its caption and CLIP similarity. Many downloads run in parallel. A
killed download resumes where it stopped, and unchanged files are not downloaded again.

* **Input**: the dataset's `source`: a directory listing, a folder, an object store or a list of URLs
* **Output**: `raw_csv/`, byte for byte as at the source
* **Invariant**: files listed = files kept + files left out by reason
* **Next**: `dedup_parquet` reads all of them, column by column name, because headers differ from file to file
"""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """The settings that select the files."""
    return {"source": dataset.source, "pattern": dataset.csv.pattern}


STAGE = Stage(
    handle=RawCsv,
    description=DESCRIPTION,
    invariant="Every downloaded file exists with the size and sha256 of its manifest.",
    byte_settings=byte_settings,
    asset="laion_assets.stages.raw_csv.asset:raw_csv_asset",
    io_manager="laion_assets.stages.raw_csv.io_manager:RawCsvIOManager",
    check="laion_assets.stages.raw_csv.check:find_problems",
    columns="laion_assets.stages.raw_csv.asset:table_columns",
    kinds=("csv",),
    pool="network",
    applies_to=lambda dataset: not dataset.published,
    find_changes="laion_assets.stages.raw_csv.source_changes:find_source_changes",
    unit="files",
    settings_group="csv",
)
