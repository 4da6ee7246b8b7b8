"""The asset `image_shards`."""

from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, field_validator

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger, run_partitions
from laion_assets.orchestration.reporting import Reporting, reported_output
from laion_assets.orchestration.resource_keys import require_resources
from laion_assets.orchestration.resources.crawl_site import CrawlSiteResource
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.retry_reasons import RETRY_HELP, parse_run_config
from laion_assets.stages.image_shards.stage import STAGE

if TYPE_CHECKING:
    import pyarrow as pa


class ImageShardsConfig(dg.Config):
    """The run config of `image_shards` in the launchpad."""

    retry: Any = Field("", description=RETRY_HELP)

    @field_validator("retry")
    @classmethod
    def _reasons(cls, value: Any) -> tuple[str, ...]:
        return parse_run_config(value)


def image_shards_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `image_shards` of a dataset."""

    @dg.asset(**declaration(STAGE, dataset))
    @require_resources(dataset)
    @own_errors_first
    def image_shards(
        context: dg.AssetExecutionContext,
        config: ImageShardsConfig,
        upstream: DedupParquet,
        crawl_site: CrawlSiteResource,
        spark: SparkResource,
    ) -> dg.Output[ImageShards]:
        from laion_assets.stages.image_shards.build import build_image_shards
        from laion_assets.stages.image_shards.io_manager import ImageShardsIOManager
        from laion_assets.stages.stored_layout import prepare_store

        partitions, log = run_partitions(context, dataset, IMAGE_SHARDS), run_logger(context)
        prepare_store(dataset, IMAGE_SHARDS, partitions, log)
        with Reporting(context, ImageShardsIOManager(dataset), partitions) as report:
            reachable = crawl_site.attach(dataset)
            build_image_shards(reachable, partitions, log, report, config.retry, spark.session)
        return reported_output(ImageShards.of(dataset, partitions))

    return image_shards


def table_columns(dataset: Dataset) -> "pa.Schema":
    """The columns of a shard's parquet file."""
    from laion_assets.stages.image_shards.shard.columns import add_kept_columns, shard_schema

    return shard_schema(add_kept_columns(dataset), dataset.dedup.kept)
