"""The asset `knn_indices`."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger
from laion_assets.stages.knn_indices.handle import KNN_INDICES, KnnIndices
from laion_assets.stages.knn_indices.inputs import ClipEmbeddings
from laion_assets.stages.knn_indices.stage import STAGE
from laion_assets.store.store import Store


def knn_indices_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `knn_indices` of a dataset."""

    @dg.asset(**declaration(STAGE, dataset))
    @own_errors_first
    def knn_indices(context: dg.AssetExecutionContext, upstream: ClipEmbeddings) -> KnnIndices:
        from laion_assets.stages.knn_indices.build import build_indices
        from laion_assets.stages.stored_layout import prepare_store

        prepare_store(dataset, KNN_INDICES, (0,), run_logger(context))
        build_indices(dataset, Store.of(dataset), run_logger(context))
        return KnnIndices.of(dataset)

    return knn_indices
