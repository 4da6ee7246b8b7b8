"""The asset `raw_csv`."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger
from laion_assets.orchestration.resources.crawl_site import CrawlSiteResource
from laion_assets.stages.handles import RAW_CSV, RawCsv
from laion_assets.store.store import Store

DESCRIPTION = """
The crawl's CSV files, as their source has them: one row a picture found on a page, with its caption and CLIP
similarity. Fetched with many parallel downloads; a killed fetch resumes where it was, files that did not change are
not fetched again.

* **from**: the dataset's `source` (a directory listing, a folder, an object store)
* **into**: `raw_csv/`, byte for byte
* **next**: `dedup_parquet` reads all of them by their headers, which differ from file to file
"""


def raw_csv_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`raw_csv` of a dataset."""

    from laion_assets.orchestration.ui.column_schemas import source_columns

    @dg.asset(
        **declaration(
            dataset,
            RAW_CSV,
            kinds={"csv"},
            description=DESCRIPTION,
            pool="network",
            metadata={"dagster/column_schema": source_columns()},
        )
    )
    @own_errors_first
    def raw_csv(context: dg.AssetExecutionContext, crawl_site: CrawlSiteResource) -> RawCsv:
        from laion_assets.stages.raw_csv.build import fetch_raw_csv
        from laion_assets.stages.stored_layout import prepare_store

        prepare_store(dataset, RAW_CSV, (0,), run_logger(context))
        fetch_raw_csv(crawl_site.attach(dataset), Store.of(dataset), run_logger(context))
        return RawCsv.of(dataset)

    return raw_csv
