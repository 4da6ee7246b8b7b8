"""Statistics in parts: each counts a few partitions and is committed, so that a rerun reads only changed ones.

A part of `dataset_statistics` is one parquet file; one of `image_statistics` is the shards of one embedding file, some
hundred, so that there are 400 parts and not 41,455.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout, ParquetNumber, ShardNumber
from laion_assets.dataset.settings.field import compute_digest
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.registry import find_stage
from laion_assets.stages.statistics.counts import COUNTS_SCHEMA, Counter
from laion_assets.stages.statistics.handle import IMAGE_STATISTICS
from laion_assets.stages.statistics.measures import DEDUP_COLUMNS, SHARD_COLUMNS, count_images, count_rows
from laion_assets.stages.status import committed_upstream, state_before_run
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet
from laion_assets.store.transaction import open_transaction


@dataclass(frozen=True)
class Part:
    """Committed partitions that are counted together, with their manifests."""

    key: str
    manifests: tuple[Manifest, ...]

    @property
    def identity(self) -> str:
        """Digest of the counted partitions."""
        return compute_digest([[manifest.key, manifest.content] for manifest in self.manifests])


def list_parts(dataset: Dataset, store: Store, asset: str) -> list[Part]:
    """List the parts of a statistics asset that have a committed partition, in order."""
    layout = dataset.layout
    upstream = {int(manifest.key): manifest for manifest in committed_upstream(dataset, store, asset)}
    if asset == IMAGE_STATISTICS:
        ranges: list[tuple[str, Sequence[int]]] = [
            (layout.embedding_key(i), layout.shards_of_embedding(i)) for i in layout.embedding_numbers
        ]
    else:
        ranges = [(layout.parquet_key(j), (j,)) for j in layout.parquet_numbers]
    found = [Part(key, tuple(upstream[number] for number in numbers if number in upstream)) for key, numbers in ranges]
    return [part for part in found if part.manifests]


def count_parts(dataset: Dataset, store: Store, asset: str, parts: list[Part], log: Callable[[str], None]) -> pa.Table:
    """Add up the counts of all parts. Parts whose partitions are unchanged are read instead of counted again."""
    stage = find_stage(asset)
    settings = stage.settings_digest(dataset)
    made = 0

    def count(part: Part) -> tuple[bool, str]:
        path = stage.part_path(part.key)
        state = state_before_run(
            store, stage, f"{asset}_parts", part.key, settings, part.identity, rebuild_before=dataset.rebuild_before
        )
        if state.is_complete:
            return False, path
        counter = Counter()
        rows = 0
        for manifest in part.manifests:
            rows += count_partition(store, dataset.layout, manifest, counter)
        with open_transaction(store, f"{asset}_parts", part.key) as transaction:
            pq.write_table(counter.table(), transaction.stage(path), compression="zstd")
            transaction.commit(Counts(rows, rows), settings=settings, inputs=part.identity)
        return True, path

    total = Counter()
    with ThreadPoolExecutor(max_workers=min(len(os.sched_getaffinity(0)), 8), thread_name_prefix="count") as pool:
        for new, path in pool.map(count, parts):
            made += new
            with store.open(path) as file:
                total.add_table(pq.read_table(file, schema=COUNTS_SCHEMA))
    noun = "part" if len(parts) == 1 else "parts"
    log(f"{len(parts):,} {noun}: {made:,} counted, {len(parts) - made:,} unchanged since the last run")
    return total.table()


def count_partition(store: Store, layout: Layout, manifest: Manifest, counter: Counter) -> int:
    """Count one partition from its parquet file, a row group at a time; returns its rows. Raises IntegrityError."""
    columns: tuple[str, ...]
    number = int(manifest.key)
    if manifest.asset == IMAGE_SHARDS:
        path, columns, count = ImageShards.path(layout, ShardNumber(number), ".parquet"), SHARD_COLUMNS, count_images
    else:
        path, columns, count = DedupParquet.path(layout, ParquetNumber(number)), DEDUP_COLUMNS, count_rows
    rows = 0
    with open_parquet(store, manifest, path) as file:
        for table in _row_groups(pq.ParquetFile(file), columns):
            count(table, counter)
            rows += table.num_rows
    return rows


def _row_groups(parquet: pq.ParquetFile, columns: tuple[str, ...]) -> Iterator[pa.Table]:
    for group in range(parquet.num_row_groups):
        yield parquet.read_row_group(group, columns=list(columns))
