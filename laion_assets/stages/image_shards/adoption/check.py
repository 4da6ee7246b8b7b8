"""The check of an adopted shard: the row-count invariant and the identity of its rows, from its files."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import AdoptionError
from laion_assets.reasons import SUCCESS_STATUS
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.adoption.verify import read_tar, verify_adopted
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.stage import UNCHECKED_INPUTS
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store


def find_adopted_problems(dataset: Dataset, store: Store, shard: ShardNumber, manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong with the tar and the parquet file of an adopted shard.

    Its rows are compared with those of dedup_parquet if they were compared when it was adopted.
    """
    import pyarrow.parquet as pq

    from laion_assets.dataset.identity import compute_uid

    tar_path, parquet_path = (ImageShards.path(dataset.layout, shard, suffix) for suffix in (".tar", ".parquet"))
    with store.open(parquet_path) as parquet:
        table = pq.read_table(parquet)
    rows = table.select(["key", "uid", "url", "caption", "status"]).to_pylist()
    try:
        with store.open(tar_path) as tar:
            samples = read_tar(tar)
            counted = verify_adopted(tar, samples, table)
    except AdoptionError as error:
        yield f"shard {manifest.key}: {error}"
        return
    if [row["key"] for row in rows if row["status"] == SUCCESS_STATUS] != [sample[0].sample for sample in samples]:
        yield f"{tar_path} and {parquet_path} have their samples in a different order"
    wrong = next((row["key"] for row in rows if row["uid"] != compute_uid(row["url"], row["caption"])), None)
    if wrong is not None:
        yield f"{parquet_path}: the uid of row {wrong} is not the md5 of its url and caption"
    counts = manifest.counts
    if (counts.rows_in, counts.rows_out, counts.reasons) != (counted.rows, counted.successes, counted.reasons):
        yield (
            f"{parquet_path} has {counted.rows} rows, {counted.successes} images and {counted.reasons}; its "
            f"manifest lists {counts.rows_in}, {counts.rows_out} and {counts.reasons}"
        )
    if manifest.inputs != UNCHECKED_INPUTS:
        source = DedupParquet.of(dataset, ())
        expected = source.shard_rows(shard).column("uid").to_pylist()
        if sorted(counted.uids) != sorted(expected):
            yield f"{parquet_path} has other rows than its row group: {len(counted.uids)} and {len(expected)}"
