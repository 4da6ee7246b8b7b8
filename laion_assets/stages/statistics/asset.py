"""The assets `dataset_statistics` and `image_statistics`."""

from typing import TYPE_CHECKING

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger
from laion_assets.stages.statistics.handle import DatasetStatistics, ImageStatistics
from laion_assets.stages.statistics.stage import DATASET_STAGE, IMAGE_STAGE
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa


def dataset_statistics_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `dataset_statistics` of a dataset."""

    @dg.asset(**declaration(DATASET_STAGE, dataset))
    @own_errors_first
    def dataset_statistics(context: dg.AssetExecutionContext) -> DatasetStatistics:
        _build(context, dataset, DATASET_STAGE.name)
        return DatasetStatistics.of(dataset)

    return dataset_statistics


def image_statistics_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `image_statistics` of a dataset."""

    @dg.asset(**declaration(IMAGE_STAGE, dataset))
    @own_errors_first
    def image_statistics(context: dg.AssetExecutionContext) -> ImageStatistics:
        _build(context, dataset, IMAGE_STAGE.name)
        return ImageStatistics.of(dataset)

    return image_statistics


def table_columns(dataset: Dataset) -> "pa.Schema":
    """The columns of the counts."""
    from laion_assets.stages.statistics.counts import COUNTS_SCHEMA

    return COUNTS_SCHEMA


def _build(context: dg.AssetExecutionContext, dataset: Dataset, asset: str) -> None:
    from laion_assets.stages.statistics.build import build_statistics
    from laion_assets.stages.stored_layout import prepare_store

    prepare_store(dataset, asset, (0,), run_logger(context))
    build_statistics(dataset, Store.of(dataset), asset, run_logger(context))
