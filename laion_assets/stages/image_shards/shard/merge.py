"""A finished shard and newly fetched rows of it become one shard: untouched rows are copied, not made again.

Members are copied as the tar's own bytes, header included, in the order of their keys. So a shard whose failed rows
succeed later is byte for byte the shard that would have been made had they succeeded at first.
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
"""Distinct error messages counted in the stats; img2dataset counts as many at most."""
Span = tuple[int, int]


@dataclass(frozen=True)
class Merged:
    """What a merge did: rows taken from the newly fetched, and how many of these have a picture now."""

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
    """Write the shard's `tar` and `parquet` anew: rows that have a picture stay, others are taken from the new ones
    where these have them. Raises ConservationError if the result lacks a picture that was there.
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
    """img2dataset's stats of the merged shard: the first fetch's times, the counts as they are now, and the retries."""
    import pyarrow.parquet as pq

    rows = pq.read_table(parquet, columns=["status", "error_message"]).to_pylist()
    messages = Counter(row["error_message"] or row["status"] for row in rows)
    stats = json.loads(base) | counts.stats | {"status_dict": dict(messages.most_common(_STATUSES)), "retries": retries}
    return json.dumps(stats, indent=4).encode()


def sample_spans(tar: IO[bytes]) -> dict[str, Span]:
    """Where each sample's members lie in a tar, by key: first byte of the first header to the end of the last data."""
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
            raise InvariantError("the shard's tar ended while it was copied: nothing was published. Run it again.")
        out.write(chunk)
        left -= len(chunk)


def _check_kept(
    base: "pa.Table", base_tar: IO[bytes], base_spans: dict[str, Span], merged: "pa.Table", tar: Path
) -> None:
    """Read back what was written: every sample that the shard had is in it, unchanged."""
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
            f"a retry would change or lose pictures that the shard has ({lost}): nothing was published. This is a "
            "defect of the stage, please report it with the run's log."
        )


def _digest(tar: IO[bytes], span: Span) -> bytes:
    tar.seek(span[0])
    return hashlib.sha256(tar.read(span[1] - span[0])).digest()
