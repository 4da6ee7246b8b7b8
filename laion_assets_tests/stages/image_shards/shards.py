"""A small dataset with a committed dedup_parquet, so that its shards can be built."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.dataset.identity import compute_uid, rows_digest
from laion_assets.dataset.layout import Layout
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.columns import DEDUP_SCHEMA

IMAGES = ImageSettings(
    fetch=FetchPolicy(connect_timeout_s=1.0, deadline_s=2.0, max_body_bytes=1_000_000, retries=0), threads=16
)


def dataset_of(root, rows, resolve, shards=1, images=IMAGES) -> Dataset:
    """Return a dataset under `root` whose dedup_parquet has `rows` (url, caption), evenly over `shards` shards."""
    layout = Layout(parquet_files=1, shards=shards, embedding_files=1, rows_per_shard=10_000)
    dataset = replace(SAMPLE, name="tiny", root=str(root), layout=layout, resolve=resolve, images=images)
    table = dedup_table(rows)
    digests = {}
    with open_transaction(Store.of(dataset), DEDUP_PARQUET, "00") as transaction:
        with pq.ParquetWriter(transaction.stage(DedupParquet.path(layout, 0)), DEDUP_SCHEMA) as writer:
            for shard in range(shards):
                part = layout.rows_of_shard(shard, shards, len(rows))
                group = table.slice(part.start, len(part))
                writer.write_table(group, row_group_size=max(len(part), 1))
                if not len(part):
                    writer.write_batch(pa.RecordBatch.from_pylist([], DEDUP_SCHEMA))
                digests[layout.shard_key(shard)] = rows_digest(group)
        settings = settings_digest(dataset, DEDUP_PARQUET)
        transaction.commit(Counts(len(rows), len(rows)), settings=settings, inputs="", outputs=digests)
    return dataset


def dedup_table(rows) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "uid": compute_uid(url, caption),
                "SAMPLE_ID": number,
                "URL": url,
                "TEXT": caption,
                "HEIGHT": 240,
                "WIDTH": 320,
                "LICENSE": None if number % 3 else "?",
                "NSFW": "UNLIKELY",
                "similarity": None if number % 5 == 4 else 0.3 + number / 1000,
                "source_file": "a.csv",
                "source_row": number + 1,
            }
            for number, (url, caption) in enumerate(rows)
        ],
        DEDUP_SCHEMA,
    )


def committed_files(dataset) -> dict[str, bytes]:
    """Return the committed files of the dataset's shards by name, without stats."""
    folder = Store.of(dataset).local_root / "image_shards"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.endswith("_stats.json")}
