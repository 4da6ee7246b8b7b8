"""The asset `search_report`."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger
from laion_assets.orchestration.resource_keys import require_resources
from laion_assets.orchestration.resources.clip_model import ClipModelResource
from laion_assets.stages.search_report.handle import SEARCH_REPORT, SearchReport
from laion_assets.stages.search_report.stage import STAGE
from laion_assets.store.store import Store


def search_report_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `search_report` of a dataset."""

    @dg.asset(**declaration(STAGE, dataset))
    @require_resources(dataset)
    @own_errors_first
    def search_report(context: dg.AssetExecutionContext, clip_model: ClipModelResource) -> SearchReport:
        from laion_assets.stages.search_report.build import build_report
        from laion_assets.stages.stored_layout import prepare_store

        prepare_store(dataset, SEARCH_REPORT, (0,), run_logger(context))
        build_report(dataset, Store.of(dataset), clip_model.load, run_logger(context))
        return SearchReport.of(dataset)

    return search_report
