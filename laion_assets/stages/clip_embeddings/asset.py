"""The asset `clip_embeddings`."""

from typing import TYPE_CHECKING

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger, run_partitions
from laion_assets.orchestration.reporting import Reporting, reported_output
from laion_assets.orchestration.resource_keys import require_resources
from laion_assets.orchestration.resources.clip_model import ClipModelResource
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.orchestration.stage_parts import load_columns
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.stage import STAGE
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.image_shards.stage import STAGE as IMAGE_SHARDS

if TYPE_CHECKING:
    import pyarrow as pa


def clip_embeddings_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `clip_embeddings` of a dataset."""

    @dg.asset(**declaration(STAGE, dataset))
    @require_resources(dataset)
    @own_errors_first
    def clip_embeddings(
        context: dg.AssetExecutionContext, upstream: ImageShards, clip_model: ClipModelResource, spark: SparkResource
    ) -> dg.Output[ClipEmbeddings]:
        from laion_assets.stages.clip_embeddings.build_files import build_embedding_files
        from laion_assets.stages.clip_embeddings.io_manager import ClipEmbeddingsIOManager
        from laion_assets.stages.stored_layout import prepare_store

        partitions, log = run_partitions(context, dataset, CLIP_EMBEDDINGS), run_logger(context)
        prepare_store(dataset, CLIP_EMBEDDINGS, partitions, log)
        with Reporting(context, ClipEmbeddingsIOManager(dataset), partitions) as report:
            build_embedding_files(dataset, partitions, clip_model.load, log, report, spark.session)
        return reported_output(ClipEmbeddings.of(dataset, partitions))

    return clip_embeddings


def table_columns(dataset: Dataset) -> "pa.Schema":
    """The columns of an embedding file's metadata; row i is row i of its npy files."""
    from laion_assets.stages.clip_embeddings.metadata_file import metadata_schema

    shard_schema = load_columns(IMAGE_SHARDS, dataset)
    assert shard_schema is not None
    return metadata_schema(shard_schema)
