"""The handles of all stages. Removed once every module imports the handle of its stage."""

from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.handle import Handle
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.knn_indices.handle import KNN_INDICES, KnnIndices
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET, PublishedParquet
from laion_assets.stages.raw_csv.handle import RAW_CSV, RawCsv
from laion_assets.stages.statistics.handle import (
    DATASET_STATISTICS,
    IMAGE_STATISTICS,
    DatasetStatistics,
    ImageStatistics,
    Statistics,
)

__all__ = [
    "CLIP_EMBEDDINGS",
    "DATASET_STATISTICS",
    "DEDUP_PARQUET",
    "IMAGE_SHARDS",
    "IMAGE_STATISTICS",
    "KNN_INDICES",
    "PUBLISHED_PARQUET",
    "RAW_CSV",
    "ClipEmbeddings",
    "DatasetStatistics",
    "DedupParquet",
    "Handle",
    "ImageShards",
    "ImageStatistics",
    "KnnIndices",
    "PublishedParquet",
    "RawCsv",
    "Statistics",
]
