"""The asset `image_shards`."""

from typing import Any

import dagster as dg
from pydantic import Field, field_validator

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, edge, run_logger, run_partitions
from laion_assets.orchestration.reporting import Reporting, reported_output
from laion_assets.orchestration.resources.crawl_site import CrawlSiteResource
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.stages.handles import IMAGE_SHARDS, DedupParquet, ImageShards
from laion_assets.stages.image_shards.retry_reasons import RETRY_HELP, asked_in_config

DESCRIPTION = """
The pictures. Each row's URL is fetched, what came is resized to 256 pixels and packed with its caption and metadata, as
img2dataset does by its options, in its webdataset shards.

* **partition**: one shard, the rows of one row group of `dedup_parquet`; a complete one is skipped in a rerun
* **into**: `image_shards/00000.tar`, `00000.parquet` (every row with its outcome), `00000_stats.json`,
  `00000.idx` (index of the tar for DALI and NeMo Curator)
* **law**: rows of the row group = pictures in the tar + failures by reason
* **retry**: run config `retry: failed` fetches only the failed rows of finished shards and merges what comes
* **safe**: http and https only; every resolved address, of redirects too, has to be public, and is the one connected to
* **next**: about a hundred shards become one embedding file
"""


class ImageShardsConfig(dg.Config):
    """What a run of `image_shards` can be asked for in the launchpad."""

    retry: Any = Field("", description=RETRY_HELP)

    @field_validator("retry")
    @classmethod
    def _reasons(cls, value: Any) -> tuple[str, ...]:
        return asked_in_config(value)


def image_shards_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """`image_shards` of a dataset."""
    from laion_assets.orchestration.ui.column_schemas import shard_columns

    @dg.asset(
        **declaration(
            dataset,
            IMAGE_SHARDS,
            kinds={"python", "webdataset"},
            description=DESCRIPTION,
            pool="network",
            ins=edge(dataset, IMAGE_SHARDS),
            metadata={"dagster/column_schema": shard_columns(dataset)},
        )
    )
    @own_errors_first
    def image_shards(
        context: dg.AssetExecutionContext,
        config: ImageShardsConfig,
        dedup_parquet: DedupParquet,
        crawl_site: CrawlSiteResource,
        spark: SparkResource,
    ) -> dg.Output[ImageShards]:
        from laion_assets.stages.image_shards.build import build_image_shards
        from laion_assets.stages.image_shards.io_manager import ImageShardsIOManager
        from laion_assets.stages.stored_layout import prepare_store

        partitions = run_partitions(context, dataset, IMAGE_SHARDS)
        prepare_store(dataset, IMAGE_SHARDS, partitions, run_logger(context))
        with Reporting(context, ImageShardsIOManager(dataset), partitions) as published:
            reachable = crawl_site.attach(dataset)
            build_image_shards(reachable, partitions, run_logger(context), published, config.retry, spark.session)
        return reported_output(ImageShards.of(dataset, partitions))

    return image_shards
