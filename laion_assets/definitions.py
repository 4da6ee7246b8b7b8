"""Everything a dataset's code location holds, put together: the only place that knows all parts.

Importing this module imports neither torch, pyspark, img2dataset nor faiss: a code location loads in seconds.
"""

import warnings

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from laion_assets.dataset.dataset import LAION400M, REHEARSAL, SAMPLE, Dataset  # noqa: E402
from laion_assets.dataset.settings.resolution import configured  # noqa: E402
from laion_assets.orchestration.checks.row_counts import row_count_checks  # noqa: E402
from laion_assets.orchestration.checks.up_to_date import up_to_date_checks  # noqa: E402
from laion_assets.orchestration.resources.clip_model import ClipModelResource  # noqa: E402
from laion_assets.orchestration.resources.crawl_site import CrawlSiteResource  # noqa: E402
from laion_assets.orchestration.resources.run_log import run_log  # noqa: E402
from laion_assets.orchestration.resources.spark import SparkResource  # noqa: E402
from laion_assets.stages.clip_embeddings.asset import clip_embeddings_asset  # noqa: E402
from laion_assets.stages.clip_embeddings.io_manager import ClipEmbeddingsIOManager  # noqa: E402
from laion_assets.stages.dedup_parquet.asset import dedup_parquet_asset  # noqa: E402
from laion_assets.stages.dedup_parquet.io_manager import DedupParquetIOManager  # noqa: E402
from laion_assets.stages.image_shards.asset import image_shards_asset  # noqa: E402
from laion_assets.stages.image_shards.io_manager import ImageShardsIOManager  # noqa: E402
from laion_assets.stages.knn_indices.asset import knn_indices_asset  # noqa: E402
from laion_assets.stages.knn_indices.io_manager import KnnIndicesIOManager  # noqa: E402
from laion_assets.stages.published_parquet.asset import published_parquet_asset  # noqa: E402
from laion_assets.stages.published_parquet.io_manager import PublishedParquetIOManager  # noqa: E402
from laion_assets.stages.raw_csv.asset import raw_csv_asset  # noqa: E402
from laion_assets.stages.raw_csv.io_manager import RawCsvIOManager  # noqa: E402
from laion_assets.stages.statistics.asset import dataset_statistics_asset, image_statistics_asset  # noqa: E402
from laion_assets.stages.statistics.io_manager import DatasetStatisticsIOManager, ImageStatisticsIOManager  # noqa: E402

IO_MANAGERS = (
    RawCsvIOManager,
    PublishedParquetIOManager,
    DedupParquetIOManager,
    ImageShardsIOManager,
    ClipEmbeddingsIOManager,
    KnnIndicesIOManager,
    DatasetStatisticsIOManager,
    ImageStatisticsIOManager,
)


def build_definitions(dataset: Dataset) -> dg.Definitions:
    """The assets, checks, IO managers and resources of a dataset, with the settings file and environment applied."""
    dataset = configured(dataset)
    return dg.Definitions(
        assets=[
            published_parquet_asset(dataset) if dataset.published else raw_csv_asset(dataset),
            dedup_parquet_asset(dataset),
            dataset_statistics_asset(dataset),
            image_shards_asset(dataset),
            image_statistics_asset(dataset),
            clip_embeddings_asset(dataset),
            knn_indices_asset(dataset),
        ],
        asset_checks=[*row_count_checks(dataset), *up_to_date_checks(dataset)],
        resources={
            **{f"{manager.asset}_io_manager": manager(dataset) for manager in IO_MANAGERS},
            "spark": SparkResource(
                master=dataset.spark.master,
                driver_memory=dataset.spark.driver_memory,
                conf=dataset.spark.conf,
            ),
            "clip_model": ClipModelResource(
                model=dataset.model,
                device=dataset.embeddings.device,
                precision=dataset.embeddings.precision,
                reader_processes=dataset.embeddings.reader_processes,
            ),
            "crawl_site": CrawlSiteResource(),
        },
        loggers={"console": run_log},
        # A run has one stage: its step runs in the run's own process, which starts the workers, the JVM or the site.
        executor=dg.in_process_executor,
    )


@dg.definitions
def laion400m() -> dg.Definitions:
    """The code location `laion400m`."""
    return build_definitions(LAION400M)


@dg.definitions
def sample() -> dg.Definitions:
    """The code location `sample`."""
    return build_definitions(SAMPLE)


@dg.definitions
def rehearsal() -> dg.Definitions:
    """The code location `rehearsal`."""
    return build_definitions(REHEARSAL)
