"""The asset `clip_embeddings`."""

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, edge, run_logger, run_partitions
from laion_assets.orchestration.reporting import Reporting, reported_output
from laion_assets.orchestration.resources.clip_model import ClipModelResource
from laion_assets.stages.handles import CLIP_EMBEDDINGS, ClipEmbeddings, ImageShards
from laion_assets.store.store import Store

DESCRIPTION = """
The vectors. A CLIP model encodes every picture and every caption of a range of shards, in shard order.

* **partition**: one embedding file, the samples of about a hundred shards; row i is the same sample in all of its files
* **into**: `clip_embeddings/img_emb/`, `text_emb/` (float16, rows of norm 1) and `metadata/`, clip-retrieval's layout
* **law**: npy rows = parquet rows = pictures in the tars - undecodable (counted)
* **next**: all files together become the indices; an index's id is the row in their concatenation
"""


def clip_embeddings_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`clip_embeddings` of a dataset."""
    from laion_assets.orchestration.ui.column_schemas import embedding_columns

    @dg.asset(
        **declaration(
            dataset,
            CLIP_EMBEDDINGS,
            kinds={"pytorch", "numpy"},
            description=DESCRIPTION,
            pool="gpu",
            ins=edge(dataset, CLIP_EMBEDDINGS),
            metadata={"dagster/column_schema": embedding_columns(dataset)},
        )
    )
    @own_errors_first
    def clip_embeddings(
        context: dg.AssetExecutionContext, image_shards: ImageShards, clip_model: ClipModelResource
    ) -> dg.Output[ClipEmbeddings]:
        from laion_assets.stages.clip_embeddings.build import build_embedding_file
        from laion_assets.stages.clip_embeddings.io_manager import ClipEmbeddingsIOManager
        from laion_assets.stages.stored_layout import prepare_store

        partitions = run_partitions(context, dataset, CLIP_EMBEDDINGS)
        prepare_store(dataset, CLIP_EMBEDDINGS, partitions, run_logger(context))
        with Reporting(context, ClipEmbeddingsIOManager(dataset), partitions) as published:
            for partition in partitions:
                built = build_embedding_file(
                    dataset, Store.of(dataset), EmbeddingNumber(partition), clip_model.load(), run_logger(context)
                )
                published(partition, built.manifest)
        return reported_output(ClipEmbeddings.of(dataset, partitions))

    return clip_embeddings
