"""One row a published shard, from its manifest: what came, what it weighs, how long it took; for plots over shards.

Durations and days are of the runs and not of the data, so this file's bytes differ between two runs over the same rows.
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
        pa.field("pictures", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("published_at", pa.string(), nullable=False),
        pa.field("reasons", pa.map_(pa.string(), pa.int64()), nullable=False),
    ]
)
"""Columns of `statistics/image_statistics_shards.parquet`; `bytes` of all its files, `seconds` in its one worker."""
SPANS = 120
"""Points of a plot over shards, at most: neighbours share one."""


@dataclass
class Span:
    """Neighbouring shards that share a point: the first one's number, sums, and each one's rate in pictures/s."""

    first: int
    rows: int = 0
    pictures: int = 0
    bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    rates: list[float] = field(default_factory=list)


def shard_table(manifests: Iterable[Manifest]) -> pa.Table:
    """A row for each manifest of `image_shards`, in their order."""
    rows = [
        {
            "shard": manifest.key,
            "rows": manifest.counts.rows_in,
            "pictures": manifest.counts.rows_out,
            "bytes": manifest.size,
            "seconds": manifest.seconds,
            "published_at": manifest.committed_at,
            "reasons": sorted(manifest.counts.reasons.items()),
        }
        for manifest in manifests
    ]
    return pa.Table.from_pylist(rows, SHARDS_SCHEMA)


def spans(shards: pa.Table, limit: int = SPANS) -> list[Span]:
    """At most `limit` spans of equally many shard numbers; those of which nothing is published are left out."""
    rows = shards.to_pylist()
    if not rows:
        return []
    start, end = int(rows[0]["shard"]), int(rows[-1]["shard"]) + 1
    width = -(-(end - start) // limit)
    found: dict[int, Span] = {}
    for row in rows:
        place = (int(row["shard"]) - start) // width
        span = found.setdefault(place, Span(start + place * width))
        span.rows += row["rows"]
        span.pictures += row["pictures"]
        span.bytes += row["bytes"]
        span.reasons.update(dict(row["reasons"]))
        if row["seconds"] > 0 and row["rows"]:
            span.rates.append(row["pictures"] / row["seconds"])
    return list(found.values())


def published_over_time(shards: pa.Table, limit: int = SPANS) -> list[tuple[float, float]]:
    """Seconds since the first shard, and pictures/s published from there to the next point, of all workers together.

    At least four shards a point in the mean, so that a shard's end is no peak; gaps between runs are points of rate 0.
    Empty where that is one point only (fewer than eight shards), or all shards were published within a second.
    """
    times = [datetime.fromisoformat(at).timestamp() for at in shards.column("published_at").to_pylist()]
    points = min(limit, len(times) // 4)
    if points < 2 or max(times) - min(times) < 1:
        return []
    begin = min(times)
    width = (max(times) - begin) / points
    pictures = [0] * points
    for at, count in zip(times, shards.column("pictures").to_pylist(), strict=True):
        pictures[min(int((at - begin) // width), points - 1)] += count
    return [(place * width, count / width) for place, count in enumerate(pictures)]
