"""Merge newly fetched rows into a complete shard. Other rows are copied, not re-encoded.

Members are copied as bytes, including their headers, sorted by key. So the result has the same bytes as if the failed
rows had succeeded in the first fetch.
"""

import hashlib
import json
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from laion_assets.errors import InvariantError
from laion_assets.reasons import SUCCESS_STATUS
from laion_assets.stages.image_shards.shard.files import ShardCounts, end_of_data

if TYPE_CHECKING:
    import pyarrow as pa

_CHUNK_BYTES = 1 << 20
_STATUSES = 10_000
"""Maximum distinct error messages in the stats; img2dataset's limit."""
Span = tuple[int, int]
"""First byte and end of a range of bytes in a tar."""


@dataclass(frozen=True)
class Merged:
    """The number of rows replaced by newly fetched ones, and how many of these have an image now."""

    replaced: int
    recovered: int


def merge_shard(
    base_tar: IO[bytes],
    base_parquet: IO[bytes],
    new_tar: IO[bytes],
    new_parquet: IO[bytes],
    tar: Path,
    parquet: Path,
) -> Merged:
    """Write the merged `tar` and `parquet`: rows with an image stay, others are replaced by newly fetched ones.

    Raises InvariantError if the result lacks an image that the shard had.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    base, new = pq.read_table(base_parquet), pq.read_table(new_parquet)
    places = {key: base.num_rows + place for place, key in enumerate(new.column("key").to_pylist())}
    rows = list(zip(base.column("key").to_pylist(), base.column("status").to_pylist(), strict=True))
    chosen = [place if status == SUCCESS_STATUS else places.get(key, place) for place, (key, status) in enumerate(rows)]
    both = pa.concat_tables([base, new.cast(base.schema)])
    merged = both.take(chosen).combine_chunks()
    with parquet.open("wb") as file, pq.ParquetWriter(file, base.schema) as writer:
        writer.write_table(merged)
    base_spans, new_spans = sample_spans(base_tar), sample_spans(new_tar)
    with tar.open("wb") as out:
        for key, status, place in zip(
            merged.column("key").to_pylist(), merged.column("status").to_pylist(), chosen, strict=True
        ):
            if status == SUCCESS_STATUS:
                kept = place < base.num_rows
                _copy(base_tar if kept else new_tar, (base_spans if kept else new_spans)[key], out)
        out.write(b"\0" * (2 * tarfile.BLOCKSIZE))
        out.write(b"\0" * (-out.tell() % tarfile.RECORDSIZE))
    _check_kept(base, base_tar, base_spans, merged, tar)
    replaced = [place for place in chosen if place >= base.num_rows]
    statuses = both.column("status").take(replaced).to_pylist() if replaced else []
    return Merged(len(replaced), statuses.count(SUCCESS_STATUS))


def merge_stats(base: bytes, counts: ShardCounts, parquet: Path, retries: list[dict[str, Any]]) -> bytes:
    """Return img2dataset's stats of the merged shard: times of the first fetch, current counts, and the retries."""
    import pyarrow.parquet as pq

    rows = pq.read_table(parquet, columns=["status", "error_message"]).to_pylist()
    messages = Counter(row["error_message"] or row["status"] for row in rows)
    stats = json.loads(base) | counts.stats | {"status_dict": dict(messages.most_common(_STATUSES)), "retries": retries}
    return json.dumps(stats, indent=4).encode()


def sample_spans(tar: IO[bytes]) -> dict[str, Span]:
    """Return the bytes of each sample in a tar, by key: from its first header to the end of its last data block."""
    spans: dict[str, Span] = {}
    tar.seek(0)
    with tarfile.open(fileobj=tar, mode="r:") as archive:
        for member in archive:
            key = member.name.partition(".")[0]
            start = spans[key][0] if key in spans else member.offset
            spans[key] = (start, end_of_data(member))
    return spans


def _copy(tar: IO[bytes], span: Span, out: IO[bytes]) -> None:
    tar.seek(span[0])
    left = span[1] - span[0]
    while left:
        chunk = tar.read(min(left, _CHUNK_BYTES))
        if not chunk:
            raise InvariantError(
                "The shard's tar ended while it was copied. Nothing was committed; run the retry again."
            )
        out.write(chunk)
        left -= len(chunk)


def _check_kept(
    base: "pa.Table", base_tar: IO[bytes], base_spans: dict[str, Span], merged: "pa.Table", tar: Path
) -> None:
    """Read the result and check that it has every sample of the shard, unchanged. Raises InvariantError."""
    import pyarrow.compute as pc

    had = base.filter(pc.equal(base.column("status"), SUCCESS_STATUS))
    has = merged.filter(pc.is_in(merged.column("key"), value_set=had.column("key").combine_chunks()))
    lost = ", ".join(sorted(set(had.column("key").to_pylist()) - set(has.column("key").to_pylist()))[:3])
    if not lost and not has.equals(had):
        lost = "rows of the parquet"
    with tar.open("rb") as out:
        spans = sample_spans(out)
        for key in had.column("key").to_pylist() if not lost else []:
            if key not in spans or _digest(out, spans[key]) != _digest(base_tar, base_spans[key]):
                lost = key
                break
    if lost:
        raise InvariantError(
            f"The retry would change or lose images of the shard ({lost}). Nothing was committed. This is a bug in "
            "the stage. Please report it with the log of the run."
        )


def _digest(tar: IO[bytes], span: Span) -> bytes:
    tar.seek(span[0])
    return hashlib.sha256(tar.read(span[1] - span[0])).digest()
