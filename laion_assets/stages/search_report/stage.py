"""The stage `search_report`: how well the committed indices answer."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import byte_settings as settings_of
from laion_assets.stages.knn_indices.stage import STAGE as KNN_INDICES
from laion_assets.stages.search_report.handle import SearchReport
from laion_assets.stages.stage import Stage

REPORT_VERSION = 1
"""Increased when the figures or the page change."""

DESCRIPTION = """
Answer a fixed set of queries, and measure recall and latency of the indices.

A report that people can read, compare after a change of the model or the index, and publish.

* **Input**: the committed indices, the embeddings that they were built from, and the stored images
* **Output**: `search_report/report.html` (one page without scripts or requests), `report.json` (figures and results),
  `contact_sheet.png`
* **Invariant**: each query of `search_report.queries` is answered once; every result is a row of the index tagged
  UNLIKELY, or untagged with `search_report.show_untagged`
* **Measured**: recall@10 against exact search by kind of query (texts, captions, images, near-duplicates), and
  latency p50 and p99 by step
"""


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """The version of the report, the queries, and the numbers of results and measurements."""
    return {"version": REPORT_VERSION, **settings_of(dataset.search_report)}


STAGE = Stage(
    handle=SearchReport,
    description=DESCRIPTION,
    invariant=(
        "Each query of the settings is answered once, and every result is a row of the index that is tagged UNLIKELY, "
        "or untagged with search_report.show_untagged."
    ),
    byte_settings=byte_settings,
    asset="laion_assets.stages.search_report.asset:search_report_asset",
    io_manager="laion_assets.stages.search_report.io_manager:SearchReportIOManager",
    check="laion_assets.stages.search_report.check:find_problems",
    kinds=("faiss", "html"),
    upstream=lambda dataset: KNN_INDICES,
    reads_incomplete_input=True,
    unit="queries",
    settings_group="search_report",
)
