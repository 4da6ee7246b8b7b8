"""The asset `raw_csv`."""

from typing import TYPE_CHECKING

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger
from laion_assets.orchestration.resource_keys import require_resources
from laion_assets.orchestration.resources.crawl_site import CrawlSiteResource
from laion_assets.stages.raw_csv.handle import RAW_CSV, RawCsv
from laion_assets.stages.raw_csv.stage import STAGE
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def raw_csv_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `raw_csv` of a dataset."""

    @dg.asset(**declaration(STAGE, dataset))
    @require_resources(dataset)
    @own_errors_first
    def raw_csv(context: dg.AssetExecutionContext, crawl_site: CrawlSiteResource) -> RawCsv:
        from laion_assets.stages.raw_csv.build import fetch_raw_csv
        from laion_assets.stages.stored_layout import prepare_store

        prepare_store(dataset, RAW_CSV, (0,), run_logger(context))
        fetch_raw_csv(crawl_site.attach(dataset), Store.of(dataset), run_logger(context))
        return RawCsv.of(dataset)

    return raw_csv


def table_columns(dataset: Dataset) -> "pa.Schema":
    """The columns that are read, where a file has them."""
    import pyarrow as pa

    from laion_assets.tables.columns import DEDUP_SCHEMA, WANTED_COLUMNS

    return pa.schema([DEDUP_SCHEMA.field(name) for name in WANTED_COLUMNS])
