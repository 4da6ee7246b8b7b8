"""What assets exchange: small frozen values that name published partitions and know how to open them.

A handle never holds data. It is made by the artefact's IO manager, which has verified that the partitions it names are
published; stage code takes handles and nothing else of the stage before.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self, cast

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber, Layout, Numbers, ParquetNumber, PartitionKey, ShardNumber
from laion_assets.errors import IncompleteError
from laion_assets.store.manifest import WHOLE, FileEntry, Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

RAW_CSV = "raw_csv"
PUBLISHED_PARQUET = "published_parquet"
DEDUP_PARQUET = "dedup_parquet"
IMAGE_SHARDS = "image_shards"
CLIP_EMBEDDINGS = "clip_embeddings"
KNN_INDICES = "knn_indices"
STAGES = (RAW_CSV, DEDUP_PARQUET, IMAGE_SHARDS, CLIP_EMBEDDINGS, KNN_INDICES)
"""The asset names, in the order of the data's way, for a dataset that starts from CSVs."""
SOURCES = (RAW_CSV, PUBLISHED_PARQUET)
"""The assets that a dataset may start from."""
DATASET_STATISTICS = "dataset_statistics"
IMAGE_STATISTICS = "image_statistics"
STATISTICS = {DATASET_STATISTICS: DEDUP_PARQUET, IMAGE_STATISTICS: IMAGE_SHARDS}
"""The assets that count, and what each counts."""


def stages_of(dataset: Dataset) -> tuple[str, ...]:
    """The asset names of a dataset, in the order of the data's way."""
    return (PUBLISHED_PARQUET, *STAGES[1:]) if dataset.published else STAGES


@dataclass(frozen=True)
class Handle:
    """Published partitions of one artefact of a dataset, as partition numbers in order."""

    store: Store
    layout: Layout
    partitions: tuple[int, ...]

    asset = ""

    @classmethod
    def of(cls, dataset: Dataset, partitions: tuple[int, ...] | None = None) -> Self:
        """A handle over these partitions, all of them if None. Whether they are published is not looked at."""
        layout = dataset.layout
        return cls(Store.of(dataset), layout, tuple(cls.numbers(layout)) if partitions is None else partitions)

    @staticmethod
    def numbers(layout: Layout) -> Numbers[int]:
        """The numbers of the artefact's partitions."""
        return cast("Numbers[int]", range(1))

    @staticmethod
    def key(layout: Layout, partition: int) -> PartitionKey:
        """The partition key of a partition number."""
        return PartitionKey(WHOLE)

    def manifest(self, partition: int) -> Manifest:
        """The partition's manifest. Raises IncompleteError if it is not published."""
        key = self.key(self.layout, partition)
        manifest = read_manifest(self.store, self.asset, key)
        if manifest is None:
            raise IncompleteError(f"{self.asset} {key} is not published in {self.store.url}: materialize it first.")
        return manifest

    def manifests(self) -> Iterator[Manifest]:
        """The manifests of the handle's partitions, in order."""
        return map(self.manifest, self.partitions)


@dataclass(frozen=True)
class RawCsv(Handle):
    """The fetched crawl CSVs: `raw_csv/...` as at their source."""

    asset = RAW_CSV

    def files(self) -> list[str]:
        """Paths, relative to the store, of the CSV files, sorted."""
        return sorted(entry.path for entry in self.manifest(0).files)


def assets_of(dataset: Dataset) -> tuple[str, ...]:
    """All asset names of a dataset: its stages in order, each with the statistics of it behind."""
    counting = {counted: asset for asset, counted in STATISTICS.items()}
    return tuple(name for stage in stages_of(dataset) for name in (stage, counting.get(stage)) if name)


@dataclass(frozen=True)
class PublishedParquet(Handle):
    """Parquet files that others published, where they lie; `published_parquet/files.json` says what was seen there."""

    asset = PUBLISHED_PARQUET
    LIST: ClassVar[str] = f"{PUBLISHED_PARQUET}/files.json"


@dataclass(frozen=True)
class DedupParquet(Handle):
    """Unique rows, sorted by uid, one row group a shard: `dedup_parquet/KEY.parquet`, `dedup_rejects/KEY.parquet`."""

    partitions: tuple[ParquetNumber, ...]

    asset = DEDUP_PARQUET

    @staticmethod
    def numbers(layout: Layout) -> Numbers[ParquetNumber]:
        return layout.parquet_numbers

    @staticmethod
    def key(layout: Layout, partition: int) -> PartitionKey:
        return layout.parquet_key(ParquetNumber(partition))

    @staticmethod
    def path(layout: Layout, partition: ParquetNumber) -> str:
        """Path of a parquet file, relative to the store."""
        return f"{DEDUP_PARQUET}/{layout.parquet_key(partition)}.parquet"

    @staticmethod
    def rejects_path(layout: Layout, partition: ParquetNumber) -> str:
        """Path of a parquet file's quarantined rows, relative to the store."""
        return f"dedup_rejects/{layout.parquet_key(partition)}.parquet"

    def shard_rows(self, shard: ShardNumber, manifest: Manifest | None = None) -> "pa.Table":
        """The rows of one shard: its row group alone is read.

        With the `manifest` of its parquet file the footer is kept for the next shard: it describes 1,296 row groups of
        `laion400m` and takes 10 ms to read. Raises IncompleteError, and IntegrityError naming a file that was altered.
        """
        import pyarrow.parquet as pq

        parquet = self.layout.parquet_of_shard(shard)
        path = self.path(self.layout, parquet)
        known = manifest or self.manifest(parquet)
        with open_parquet(self.store, known, path) as file:
            footer = None if manifest is None else _footer(self.store, known.entry(path))
            return pq.ParquetFile(file, metadata=footer).read_row_group(self.layout.row_group_of_shard(shard))


@lru_cache(maxsize=2)
def _footer(store: Store, entry: FileEntry) -> "pq.FileMetaData":
    """The footer of a published parquet file."""
    import pyarrow.parquet as pq

    with store.open(entry.path) as file:
        return pq.read_metadata(file)


@dataclass(frozen=True)
class ImageShards(Handle):
    """webdataset shards as img2dataset names them: `image_shards/00000.tar`, `.parquet`, `_stats.json`; and `.idx`."""

    partitions: tuple[ShardNumber, ...]

    asset = IMAGE_SHARDS

    @staticmethod
    def numbers(layout: Layout) -> Numbers[ShardNumber]:
        return layout.shard_numbers

    @staticmethod
    def key(layout: Layout, partition: int) -> PartitionKey:
        return layout.shard_key(ShardNumber(partition))

    @staticmethod
    def path(layout: Layout, shard: ShardNumber, suffix: str) -> str:
        """Path of a shard's file, relative to the store; suffix `.tar`, `.parquet`, `_stats.json` or `.idx`."""
        return f"{IMAGE_SHARDS}/{layout.shard_key(shard)}{suffix}"


@dataclass(frozen=True)
class ClipEmbeddings(Handle):
    """clip-retrieval's `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy`, `metadata/metadata_0.parquet`."""

    partitions: tuple[EmbeddingNumber, ...]

    asset = CLIP_EMBEDDINGS

    @staticmethod
    def numbers(layout: Layout) -> Numbers[EmbeddingNumber]:
        return layout.embedding_numbers

    @staticmethod
    def key(layout: Layout, partition: int) -> PartitionKey:
        return layout.embedding_key(EmbeddingNumber(partition))

    @staticmethod
    def path(layout: Layout, partition: EmbeddingNumber, kind: str) -> str:
        """Path of an embedding file, relative to the store; kind `img_emb`, `text_emb` or `metadata`."""
        suffix = "parquet" if kind == "metadata" else "npy"
        return f"{CLIP_EMBEDDINGS}/{kind}/{kind}_{layout.embedding_key(partition)}.{suffix}"


@dataclass(frozen=True)
class KnnIndices(Handle):
    """clip-retrieval's index folder: `image.index`, `text.index`, `image.json`, `text.json`, `metadata/`."""

    asset = KNN_INDICES


@dataclass(frozen=True)
class Statistics(Handle):
    """Figures and exact counts: `statistics/ASSET.json`, `.parquet`; of pictures also `ASSET_shards.parquet`."""

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
        """Path of the table with a row for each published shard, relative to the store."""
        return f"statistics/{IMAGE_STATISTICS}_shards.parquet"


@dataclass(frozen=True)
class DatasetStatistics(Statistics):
    """Statistics of the unique rows."""

    asset = DATASET_STATISTICS


@dataclass(frozen=True)
class ImageStatistics(Statistics):
    """Statistics of the fetched pictures."""

    asset = IMAGE_STATISTICS


def partition_paths(asset: str, key: str, layout: Layout) -> tuple[str, ...]:
    """The paths of a partition's files, relative to the store; `layout` is asked only where the one partition has all.

    Of `raw_csv` none: its source names the files.
    """
    match asset:
        case "dedup_parquet":
            return f"{DEDUP_PARQUET}/{key}.parquet", f"dedup_rejects/{key}.parquet"
        case "image_shards":
            return tuple(f"{IMAGE_SHARDS}/{key}{suffix}" for suffix in (".tar", ".parquet", "_stats.json"))
        case "clip_embeddings":
            vectors = tuple(f"{CLIP_EMBEDDINGS}/{kind}/{kind}_{key}.npy" for kind in ("img_emb", "text_emb"))
            return (*vectors, f"{CLIP_EMBEDDINGS}/metadata/metadata_{key}.parquet")
        case "knn_indices":
            names = ("image.index", "text.index", "image.json", "text.json", "indices_paths.json")
            metadata = [f"metadata/metadata_{layout.embedding_key(each)}.parquet" for each in layout.embedding_numbers]
            return tuple(f"{KNN_INDICES}/{name}" for name in (*names, *metadata))
        case "published_parquet":
            return (PublishedParquet.LIST,)
        case "dataset_statistics":
            return Statistics.summary_path(asset), Statistics.counts_path(asset)
        case "image_statistics":
            return Statistics.summary_path(asset), Statistics.counts_path(asset), Statistics.shards_path()
        case _ if asset.endswith("_parts"):
            return (f"statistics/{asset}/{key}.parquet",)
        case _:
            return ()


HANDLES: dict[str, type[Handle]] = {
    handle.asset: handle
    for handle in (
        RawCsv,
        PublishedParquet,
        DedupParquet,
        ImageShards,
        ClipEmbeddings,
        KnnIndices,
        DatasetStatistics,
        ImageStatistics,
    )
}
"""The handle of each artefact, by asset name."""
