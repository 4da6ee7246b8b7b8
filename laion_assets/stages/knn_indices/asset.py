"""The asset `knn_indices`."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, edge, run_logger
from laion_assets.stages.handles import KNN_INDICES, ClipEmbeddings, KnnIndices
from laion_assets.store.store import Store

DESCRIPTION = """
The search. autofaiss builds one index over all image vectors and one over all caption vectors, to be memory-mapped.

* **into**: `knn_indices/image.index`, `text.index`, their measured infos, and the metadata: `clip-retrieval back` and
  `laion-assets search` open this folder
* **law**: vectors in the index = rows of all embedding files, and an index's id is the row in their concatenation
* **measured**: size, recall@10 against exact search, milliseconds a query
"""


def knn_indices_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`knn_indices` of a dataset."""

    @dg.asset(
        **declaration(
            dataset,
            KNN_INDICES,
            kinds={"faiss"},
            description=DESCRIPTION,
            ins=edge(dataset, KNN_INDICES),
        )
    )
    @own_errors_first
    def knn_indices(context: dg.AssetExecutionContext, clip_embeddings: ClipEmbeddings) -> KnnIndices:
        from laion_assets.stages.knn_indices.build import build_indices
        from laion_assets.stages.stored_layout import prepare_store

        prepare_store(dataset, KNN_INDICES, (0,), run_logger(context))
        build_indices(dataset, Store.of(dataset), run_logger(context))
        return KnnIndices.of(dataset)

    return knn_indices
