"""The handles of `dataset_statistics` and `image_statistics`."""

from dataclasses import dataclass

from laion_assets.dataset.layout import Layout
from laion_assets.stages.handle import Handle

DATASET_STATISTICS = "dataset_statistics"
IMAGE_STATISTICS = "image_statistics"


@dataclass(frozen=True)
class Statistics(Handle):
    """Figures and exact counts: `statistics/ASSET.json`, `.parquet`; of images also `ASSET_shards.parquet`."""

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        return cls.summary_path(cls.asset), cls.counts_path(cls.asset)

    @staticmethod
    def summary_path(asset: str) -> str:
        """Path of the figures, relative to the store."""
        return f"statistics/{asset}.json"

    @staticmethod
    def counts_path(asset: str) -> str:
        """Path of the counts by measure and value, relative to the store."""
        return f"statistics/{asset}.parquet"

    @staticmethod
    def shards_path() -> str:
        """Path of the table with a row for each committed shard, relative to the store."""
        return f"statistics/{IMAGE_STATISTICS}_shards.parquet"


@dataclass(frozen=True)
class DatasetStatistics(Statistics):
    """Statistics of the unique rows."""

    asset = DATASET_STATISTICS


@dataclass(frozen=True)
class ImageStatistics(Statistics):
    """Statistics of the downloaded images."""

    asset = IMAGE_STATISTICS

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        return *super().paths(layout, key), cls.shards_path()
