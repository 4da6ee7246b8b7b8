"""The check of `image_shards`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield violations of the invariant in a shard's tar and parquet file, counted member by member and row by row.

    The tar's index, if the shard has one, must be that of the tar.
    """
    from laion_assets.stages.image_shards.shard.files import verify
    from laion_assets.stages.image_shards.shard.tar_index import SUFFIX, build_index

    layout, shard = dataset.layout, ShardNumber(partition)
    manifest = ImageShards.of(dataset, (partition,)).manifest(partition)
    if manifest.is_adopted:
        from laion_assets.stages.image_shards.adoption.check import find_adopted_problems

        yield from find_adopted_problems(dataset, store, shard, manifest)
        return
    tar_path = ImageShards.path(layout, shard, ".tar")
    parquet_path = ImageShards.path(layout, shard, ".parquet")
    rows = DedupParquet.of(dataset, ())
    source = rows.manifest(layout.parquet_of_shard(shard))
    expected = rows.shard_rows(shard, source).column("uid").to_pylist()
    with store.open(tar_path) as tar, store.open(parquet_path) as parquet:
        counted = verify(tar, parquet, tar_path)
        index_path = ImageShards.path(layout, shard, SUFFIX)
        if index_path in [entry.path for entry in manifest.files] and (
            not store.exists(index_path) or store.read_bytes(index_path) != build_index(tar).encode()
        ):
            yield f"{index_path} is not the index of {tar_path}: it was altered, or belongs to another tar"
    found = list(counted.uids)
    if found != expected:
        missing = sorted(set(expected) - set(found))
        yield (
            f"{parquet_path} has {len(found)} rows and its row group {len(expected)}; "
            + (f"uid {missing[0]} is missing" if missing else "their order or number differs")
        )
    counts = manifest.counts
    if (counts.rows_in, counts.rows_out, counts.reasons) != (counted.rows, counted.successes, counted.reasons):
        yield (
            f"{parquet_path} has {counted.rows} rows, {counted.successes} images and {counted.reasons}; its "
            f"manifest lists {counts.rows_in}, {counts.rows_out} and {counts.reasons}"
        )
