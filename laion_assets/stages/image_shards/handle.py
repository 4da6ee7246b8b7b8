"""The handle of `image_shards`."""

from dataclasses import dataclass

from laion_assets.dataset.layout import Layout, Numbers, PartitionKey, ShardNumber
from laion_assets.stages.handle import Handle

IMAGE_SHARDS = "image_shards"


@dataclass(frozen=True)
class ImageShards(Handle):
    """webdataset shards in img2dataset's layout: `image_shards/00000.tar`, `.parquet`, `_stats.json`, and `.idx`."""

    partitions: tuple[ShardNumber, ...]

    asset = IMAGE_SHARDS

    @staticmethod
    def numbers(layout: Layout) -> Numbers[ShardNumber]:
        return layout.shard_numbers

    @staticmethod
    def key(layout: Layout, partition: int) -> PartitionKey:
        return layout.shard_key(ShardNumber(partition))

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        return tuple(f"{IMAGE_SHARDS}/{key}{suffix}" for suffix in (".tar", ".parquet", "_stats.json", ".idx"))

    @staticmethod
    def path(layout: Layout, shard: ShardNumber, suffix: str) -> str:
        """Path of a shard's file, relative to the store; suffix `.tar`, `.parquet`, `_stats.json` or `.idx`."""
        return f"{IMAGE_SHARDS}/{layout.shard_key(shard)}{suffix}"
