"""The check of `dedup_parquet`."""

from collections import Counter
from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ParquetNumber
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield violations of the invariant and of the layout in a parquet file and its rejects file."""
    import pyarrow.parquet as pq

    from laion_assets.dataset.identity import compute_uid, rows_digest

    layout = dataset.layout
    manifest = DedupParquet.of(dataset, (partition,)).manifest(partition)
    parquet_file = ParquetNumber(partition)
    path = DedupParquet.path(layout, parquet_file)
    shards = layout.shards_of_parquet(parquet_file)
    first, end = layout.uid_range(parquet_file)
    rows, previous = 0, ""
    with store.open(path) as file:
        parquet = pq.ParquetFile(file)
        if parquet.num_row_groups != len(shards):
            yield f"{path} has {parquet.num_row_groups} row groups for {len(shards)} shards"
            return
        total = parquet.metadata.num_rows
        for position, shard in enumerate(shards):
            table = parquet.read_row_group(position)
            key = layout.shard_key(shard)
            if table.num_rows != len(layout.rows_of_shard(position, len(shards), total)):
                yield f"{path}: row group {position} (shard {key}) has {table.num_rows} rows, not its part of {total}"
            if rows_digest(table) != manifest.outputs.get(key):
                yield f"{path}: row group {position} (shard {key}) differs from what was committed"
            for row in table.select(["uid", "URL", "TEXT"]).to_pylist():
                if row["uid"] != compute_uid(row["URL"], row["TEXT"]):
                    yield f"{path}: uid {row['uid']} is not the md5 of its url and caption"
                if row["uid"] <= previous:
                    yield f"{path}: uid {row['uid']} comes after {previous}: not sorted, or duplicate"
                if not first <= int(row["uid"], 16) < end:
                    yield f"{path}: uid {row['uid']} belongs to another file's range"
                previous = row["uid"]
            rows += table.num_rows
    if rows != manifest.counts.rows_out:
        yield f"{path} has {rows} rows, but its manifest lists {manifest.counts.rows_out}"
    yield from _reject_problems(store, DedupParquet.rejects_path(layout, parquet_file), dict(manifest.counts.reasons))


def _reject_problems(store: Store, path: str, promised: dict[str, int]) -> Iterator[str]:
    import pyarrow.parquet as pq

    promised.pop("duplicate", None)
    with store.open(path) as file:
        found = Counter(pq.read_table(file, columns=["reason"]).column("reason").to_pylist())
    if dict(found) != promised:
        yield f"{path} has {dict(found)} by reason, but its manifest lists {promised}"
