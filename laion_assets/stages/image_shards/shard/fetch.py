"""Fetch and resize the images of some rows of a shard, and pack them into a tar, a parquet and stats in a folder.

Three steps overlap: threads fetch, the decoder process re-encodes, and this thread passes bodies from one to the other
and completes each row. Formats and columns are img2dataset's. Runs in workers: heavy libraries are imported inside the
functions.
"""

import functools
import gc
import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import ShardError
from laion_assets.http.fetch import Fetched, shared_fetcher
from laion_assets.http.fetch_queue import FetchQueue, FetchTotals
from laion_assets.reasons import DOWNLOAD_STATUS, RESIZE_STATUS, SUCCESS_STATUS, Reason
from laion_assets.stages.image_shards.local_failures.watch import ShardWatch
from laion_assets.stages.image_shards.settings import ImageSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from laion_assets.stages.image_shards.decoding.decoder_process import Answer, Decoder

_MIN_THREADS = 4
"""Minimum threads of the second pass. It uses few, because the machine may have been too busy for all of them."""
SUFFIXES = (".tar", ".parquet", "_stats.json")


@dataclass(frozen=True)
class FetchedRows:
    """The local files of the fetched rows, by suffix, and figures of the fetch.

    `tally` has requests, bytes and seconds, and `exif_unreadable`: images that are kept although their EXIF cannot be
    read (the column is null). `failing` is the share of failing sites and the number of sites.
    """

    files: dict[str, Path]
    tally: dict[str, float]
    failing: tuple[float, int]


def fetch_rows(
    dataset: Dataset, shard: ShardNumber, rows: "pa.Table", positions: Sequence[int], folder: Path, watch: ShardWatch
) -> FetchedRows:
    """Fetch these rows of dedup_parquet, whose positions in the shard are `positions`, into a new `folder`.

    The parquet has every row with its outcome, and the tar every image, under the key of its position: the same bytes
    as in a shard that is fetched as a whole. Each row is added to the `watch`; its `rows_to_refetch` are fetched a
    second time with few threads. Raises ShardError for a missing column and for a decoder process that does not start,
    LocalFailureError, and OSError if the disk fails.
    """
    from laion_assets.stages.image_shards.decoding.decoder_process import Decoder
    from laion_assets.stages.image_shards.shard.columns import add_kept_columns, shard_schema
    from laion_assets.stages.image_shards.shard.writer import ShardWriter

    started = time.time()
    images, layout = add_kept_columns(dataset), dataset.layout
    carried = read_carried_columns(images, rows)
    keys = [layout.sample_key(shard, position) for position in positions]
    folder.mkdir()
    files = {suffix: folder / f"{layout.shard_key(shard)}{suffix}" for suffix in SUFFIXES}
    writer = ShardWriter(
        files[".tar"], files[".parquet"], shard_schema(images, dataset.dedup.kept), images.encode_format
    )
    outcomes: dict[int, str] = {}
    unreadable: set[int] = set()

    def add(place: int, fetched: Fetched, row: dict[str, Any], reason: Reason, image: bytes | None = None) -> None:
        writer.add({**carried[place], "key": keys[place], **row}, reason, image)
        outcomes[place] = row["error_message"] or row["status"]
        if images.extract_exif and image is not None and row["exif"] is None:
            unreadable.add(place)
        watch.add(place, fetched, reason)

    fetcher = shared_fetcher(dataset.fetch_policy)
    tallies = []
    exclude_modules_from_collection()
    with Decoder(images) as decoder:
        for places, threads in plan_passes(len(carried), images.threads, watch):
            with FetchQueue(fetcher, [carried[place]["url"] for place in places], threads) as queue:
                _drain(images, decoder, queue, places, add)
                tallies.append(queue.totals.as_dict())
    failing = watch.finish()
    writer.close()
    files["_stats.json"].write_text(
        json.dumps(make_stats(Counter(outcomes.values()), started), indent=4), encoding="utf-8"
    )
    tally = {name: sum(one[name] for one in tallies) for name in FetchTotals().as_dict()}
    return FetchedRows(files, {**tally, "exif_unreadable": len(unreadable)}, failing)


@functools.cache
def exclude_modules_from_collection() -> None:
    """Exclude the imported modules from garbage collection. Runs once per process.

    A shard of 10,000 rows causes about 1,000 collections. With the modules, they take as much CPU time as hashing.
    """
    gc.freeze()


def plan_passes(rows: int, threads: int, watch: ShardWatch) -> Iterator[tuple[Sequence[int], int]]:
    """Yield the positions to fetch and the number of threads: first all rows, then those that the watch suspects."""
    yield range(rows), threads
    if places := watch.rows_to_refetch():
        yield places, min(threads, max(_MIN_THREADS, len(places) // 8))


def _drain(
    images: ImageSettings, decoder: "Decoder", queue: FetchQueue, places: Sequence[int], add: Callable[..., None]
) -> None:
    """Take all responses from the queue, pass their bodies to the decoder, and add each row when it is complete."""
    waiting: deque[tuple[int, Fetched]] = deque()
    left = len(places)
    while left:
        answer = None if decoder.full or len(waiting) == left else queue.take(wait=not waiting)
        if answer is not None and answer[1].reason is Reason.SUCCESS:
            waiting.append((places[answer[0]], answer[1]))
            decoder.put(answer[1].body)
            continue
        if answer is not None:
            add(places[answer[0]], answer[1], _failure_columns(images, answer[1]), answer[1].reason)
        else:
            place, fetched = waiting.popleft()
            row, reason, image = _image_columns(images, fetched.body, decoder.take())
            queue.release(fetched)
            add(place, fetched, row, reason, image)
        left -= 1


def read_carried_columns(images: ImageSettings, rows: "pa.Table") -> list[dict[str, Any]]:
    """Return the columns that each row carries over: uid, additional columns, caption, url."""
    additional = [name for name in images.additional_columns if name != "uid"]
    missing = [name for name in additional if name not in rows.column_names]
    if missing:
        raise ShardError(
            f"images.additional_columns contains {', '.join(missing)}, which dedup_parquet does not have. Choose from "
            f"{', '.join(rows.column_names)}."
        )
    sources = {"uid": "uid", **{name: name for name in additional}, "caption": "TEXT", "url": "URL"}
    columns = [rows.column(source).to_pylist() for source in sources.values()]
    return [dict(zip(sources, values, strict=True)) for values in zip(*columns, strict=True)]


def _failure_columns(images: ImageSettings, fetched: Fetched) -> dict[str, Any]:
    """Return the columns after the key of a row whose file was not fetched."""
    return make_outcome_columns(images, DOWNLOAD_STATUS, f"{fetched.reason.value}: {fetched.detail}")


def _image_columns(images: ImageSettings, body: bytes, answer: "Answer") -> tuple[dict[str, Any], Reason, bytes | None]:
    """Return the columns after the key of a row whose file was fetched, its reason, and its image if it has one."""
    result = answer.reencoded
    if result.reason is not Reason.SUCCESS:
        return make_outcome_columns(images, RESIZE_STATUS, result.error_message), result.reason, None
    row = make_outcome_columns(images, SUCCESS_STATUS, None)
    row |= {name: getattr(result, name) for name in ("width", "height", "original_width", "original_height")}
    if images.extract_exif:
        row["exif"] = answer.exif
    if images.compute_hash != "none":
        row[images.compute_hash] = hashlib.new(images.compute_hash, body).hexdigest()
    return row, Reason.SUCCESS, result.content


def make_outcome_columns(images: ImageSettings, status: str, error: str | None) -> dict[str, Any]:
    """Return the columns after the key, in their order, without an image's values."""
    row: dict[str, Any] = {"status": status, "error_message": error}
    row |= dict.fromkeys(("width", "height", "original_width", "original_height"))
    if images.extract_exif:
        row["exif"] = None
    if images.compute_hash != "none":
        row[images.compute_hash] = None
    return row


def make_stats(outcomes: "Counter[str]", started: float) -> dict[str, Any]:
    """Return img2dataset's stats. The row counts are replaced later by those of the files."""
    ended = time.time()
    return {
        "count": outcomes.total(),
        "successes": outcomes[SUCCESS_STATUS],
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "duration": ended - started,
        "start_time": started,
        "end_time": ended,
        "status_dict": dict(outcomes),
    }
