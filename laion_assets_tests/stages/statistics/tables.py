"""Committed partitions of synthetic rows, without Spark and without a fetch."""

import random
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.shard.columns import shard_schema
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.columns import DEDUP_SCHEMA

HOSTILE = '<script>alert("x")</script> $x$'
"""A licence as a stranger may write it: markup, and signs that begin a formula in a plot."""


def dedup_rows(seed: int, count: int = 40) -> list[dict[str, Any]]:
    """Rows with nulls, hosts in both letter cases, and text that must be escaped."""
    rng = random.Random(seed)
    return [
        {
            "uid": f"{seed:02x}{number:030x}",
            "URL": rng.choice(["https://A.test/1", "http://b.test:81/?q", "https://u@c.test/x", "ftp://a.test/2"]),
            "TEXT": rng.choice([None, "a", "a picture", "ä" * 30]),
            "HEIGHT": rng.choice([None, 100, 256, 700]),
            "WIDTH": rng.choice([None, 90, 512, 1024]),
            "LICENSE": rng.choice(["?", None, HOSTILE]),
            "NSFW": rng.choice(["UNLIKELY", "NSFW", None]),
            "similarity": rng.choice([None, -0.25, 0.30009, 0.31, 1.0]),
            "source_file": rng.choice(["a.csv", "b.csv"]),
            "source_row": number,
        }
        for number in range(count)
    ]


def commit_dedup(dataset: Dataset, partition: int, rows: list[dict[str, Any]]) -> None:
    """Publish rows as a partition of `dedup_parquet`, 7 of them read twice and 3 filtered."""
    layout = dataset.layout
    with open_transaction(Store.of(dataset), DEDUP_PARQUET, layout.parquet_key(partition)) as transaction:
        path = transaction.stage(DedupParquet.path(layout, partition))
        pq.write_table(pa.Table.from_pylist(rows, DEDUP_SCHEMA), path, row_group_size=15)
        counts = Counts(len(rows) + 10, len(rows), {"duplicate": 7, "filtered_width": 3})
        transaction.commit(counts, settings="", inputs="")


def shard_rows(seed: int, count: int = 30) -> list[dict[str, Any]]:
    """Rows of a shard's parquet file, some fetched and some not."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        reason = rng.choice(["success", "success", "http_404", "deadline"])
        good = reason == "success"
        rows.append(
            {
                "uid": f"{seed:02x}{number:030x}",
                "url": rng.choice(["https://a.test/1", "http://b.test/2"]),
                "key": f"{number:09d}",
                "status": "success" if good else "failed_to_download",
                "reason": reason,
                "original_width": rng.choice([300, 800]) if good else None,
                "original_height": rng.choice([200, 600]) if good else None,
            }
        )
    return rows


def commit_shard(dataset: Dataset, shard: int, rows: list[dict[str, Any]]) -> None:
    """Commit rows as a shard, only its parquet file."""
    layout = dataset.layout
    failures = Counter(row["reason"] for row in rows if row["reason"] != "success")
    with open_transaction(Store.of(dataset), IMAGE_SHARDS, layout.shard_key(shard)) as transaction:
        path = transaction.stage(ImageShards.path(layout, shard, ".parquet"))
        pq.write_table(pa.Table.from_pylist(rows, shard_schema(dataset.images)), path)
        counts = Counts(len(rows), len(rows) - failures.total(), dict(failures))
        transaction.commit(counts, settings="", inputs="")
