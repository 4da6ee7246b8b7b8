"""One row per committed shard, from its manifest: images, bytes, seconds, failures; for plots over shards.

Durations and dates belong to the runs, so the bytes of this file differ between two runs over the same rows.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from laion_assets.store.manifest import Manifest

SHARDS_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("committed_at", pa.string(), nullable=False),
        pa.field("reasons", pa.map_(pa.string(), pa.int64()), nullable=False),
    ]
)
"""Columns of `statistics/image_statistics_shards.parquet`: `bytes` of all files, `seconds` in the worker.

An adopted shard has 0 s: its download is not known.
"""
MAX_POINTS = 120
"""Maximum number of points of a plot over shards; neighbouring shards share a point."""


@dataclass
class ShardRange:
    """Neighbouring shards that share a point: the first one's number, sums, and each one's rate in images/s."""

    first: int
    rows: int = 0
    images: int = 0
    bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rates: list[float] = field(default_factory=list)


def shard_table(manifests: Iterable[Manifest]) -> pa.Table:
    """Build the table: a row for each manifest of `image_shards`, in their order."""
    rows = [
        {
            "shard": manifest.key,
            "rows": manifest.counts.rows_in,
            "images": manifest.counts.rows_out,
            "bytes": manifest.size,
            "seconds": 0.0 if manifest.is_adopted else manifest.seconds,
            "committed_at": manifest.committed_at,
            "reasons": sorted(manifest.counts.reasons.items()),
        }
        for manifest in manifests
    ]
    return pa.Table.from_pylist(rows, SHARDS_SCHEMA)


def shard_ranges(shards: pa.Table, limit: int = MAX_POINTS) -> list[ShardRange]:
    """Split the shards into at most `limit` ranges of equal length; ranges without a committed shard are left out."""
    rows = shards.to_pylist()
    if not rows:
        return []
    start, end = int(rows[0]["shard"]), int(rows[-1]["shard"]) + 1
    width = -(-(end - start) // limit)
    found: dict[int, ShardRange] = {}
    for row in rows:
        place = (int(row["shard"]) - start) // width
        part = found.setdefault(place, ShardRange(start + place * width))
        part.rows += row["rows"]
        part.images += row["images"]
        part.bytes += row["bytes"]
        part.reasons.update(dict(row["reasons"]))
        if row["seconds"] > 0 and row["rows"]:
            part.rates.append(row["images"] / row["seconds"])
    return list(found.values())


def throughput_over_time(shards: pa.Table, limit: int = MAX_POINTS) -> list[tuple[float, float]]:
    """Return (seconds since the first shard, images/s of all workers until the next point).

    A point has at least four shards on average, so that the end of a single shard makes no peak. Gaps between runs are
    points of rate 0. Empty for fewer than eight shards, or if all shards were committed within a second.
    """
    times = [datetime.fromisoformat(at).timestamp() for at in shards.column("committed_at").to_pylist()]
    points = min(limit, len(times) // 4)
    if points < 2 or max(times) - min(times) < 1:
        return []
    begin = min(times)
    width = (max(times) - begin) / points
    images = [0] * points
    for at, count in zip(times, shards.column("images").to_pylist(), strict=True):
        images[min(int((at - begin) // width), points - 1)] += count
    return [(place * width, count / width) for place, count in enumerate(images)]
