"""The pictures of some rows of a shard: fetched, resized and packed into a tar, a parquet and stats in a folder.

Three work at once: threads fetch, the decoder's process makes pictures of the bodies, and this thread hands over
between them and completes each row. Formats and columns are img2dataset's. Worker-side: heavy libraries are imported
inside.
"""

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import ShardError
from laion_assets.http.fetch import Fetched, shared_fetcher
from laion_assets.http.fetch_queue import FetchQueue, FetchTotals
from laion_assets.http.policy import FetchPolicy
from laion_assets.reasons import DOWNLOAD_STATUS, RESIZE_STATUS, SUCCESS_STATUS, Reason
from laion_assets.stages.image_shards.local_failures.watch import ShardWatch
from laion_assets.stages.image_shards.settings import ImageSettings

if TYPE_CHECKING:
    import pyarrow as pa

    from laion_assets.stages.image_shards.decoding.decoder_process import Answer, Decoder

_THREADS_AGAIN = 4
"""Least threads of the second pass: on a machine that was too busy for all of them, few may do."""
SUFFIXES = (".tar", ".parquet", "_stats.json")


@dataclass(frozen=True)
class FetchedRows:
    """What fetching made: local files by suffix, and the run's own figures (requests, bytes, seconds), among them
    how many images are kept although their EXIF is unreadable (`exif_unreadable`; the column is null).

    `failing` is the share of sites that fail and the number of sites.
    """

    files: dict[str, Path]
    tally: dict[str, float]
    failing: tuple[float, int]


def fetch_rows(
    dataset: Dataset, shard: int, rows: "pa.Table", positions: Sequence[int], folder: Path, watch: ShardWatch
) -> FetchedRows:
    """Fetch these rows of dedup_parquet, whose places in the shard are `positions`, into a new `folder`.

    Every row is in the parquet with its outcome, and in the tar where it has a picture, under the key of its place:
    as bytes, the same as in a shard that is fetched whole. The `watch` sees each row; those that it wants `again` are
    fetched a second time, few at once. Raises ShardError for a column that is not there and for a decoder that does
    not start, LocalFailureError, OSError for a disk that fails.
    """
    from laion_assets.stages.image_shards.decoding.decoder_process import Decoder
    from laion_assets.stages.image_shards.shard.columns import shard_schema
    from laion_assets.stages.image_shards.shard.writer import ShardWriter

    started = time.time()
    images, layout = dataset.images, dataset.layout
    carried = _carried(images, rows)
    keys = [layout.sample_key(shard, position) for position in positions]
    folder.mkdir()
    files = {suffix: folder / f"{layout.shard_key(shard)}{suffix}" for suffix in SUFFIXES}
    writer = ShardWriter(files[".tar"], files[".parquet"], shard_schema(images), images.encode_format)
    outcomes: dict[int, str] = {}
    unreadable: set[int] = set()

    def add(place: int, fetched: Fetched, row: dict[str, Any], reason: Reason, picture: bytes | None = None) -> None:
        writer.add({**carried[place], "key": keys[place], **row}, reason, picture)
        outcomes[place] = row["error_message"] or row["status"]
        if images.extract_exif and picture is not None and row["exif"] is None:
            unreadable.add(place)
        watch.add(place, fetched, reason)

    fetcher = shared_fetcher(FetchPolicy.of(images, dataset.resolve, dataset.blocked_networks))
    tallies = []
    with Decoder(images) as decoder:
        for places, threads in _passes(len(carried), images.threads, watch):
            with FetchQueue(fetcher, [carried[place]["url"] for place in places], threads) as queue:
                _drain(images, decoder, queue, places, add)
                tallies.append(queue.totals.as_dict())
    failing = watch.finish()
    writer.close()
    files["_stats.json"].write_text(json.dumps(_stats(Counter(outcomes.values()), started), indent=4), encoding="utf-8")
    tally = {name: sum(one[name] for one in tallies) for name in FetchTotals().as_dict()}
    return FetchedRows(files, {**tally, "exif_unreadable": len(unreadable)}, failing)


def _passes(rows: int, threads: int, watch: ShardWatch) -> Iterator[tuple[Sequence[int], int]]:
    """The places to fetch and the number of threads: all of them, then those that the watch wants again."""
    yield range(rows), threads
    if places := watch.again():
        yield places, min(threads, max(_THREADS_AGAIN, len(places) // 8))


def _drain(
    images: ImageSettings, decoder: "Decoder", queue: FetchQueue, places: Sequence[int], add: Callable[..., None]
) -> None:
    """Take all answers of the queue, hand bodies to the decoder, and add each row once it is complete."""
    waiting: deque[tuple[int, Fetched]] = deque()
    left = len(places)
    while left:
        answer = None if decoder.full or len(waiting) == left else queue.take(wait=not waiting)
        if answer is not None and answer[1].reason is Reason.SUCCESS:
            waiting.append((places[answer[0]], answer[1]))
            decoder.put(answer[1].body)
            continue
        if answer is not None:
            add(places[answer[0]], answer[1], _failed(images, answer[1]), answer[1].reason)
        else:
            place, fetched = waiting.popleft()
            row, reason, picture = _resized(images, fetched.body, decoder.take())
            queue.release(fetched)
            add(place, fetched, row, reason, picture)
        left -= 1


def _carried(images: ImageSettings, rows: "pa.Table") -> list[dict[str, Any]]:
    """What each row brings: uid, additional columns, caption, url."""
    additional = [name for name in images.additional_columns if name != "uid"]
    missing = [name for name in additional if name not in rows.column_names]
    if missing:
        raise ShardError(
            f"images.additional_columns names {', '.join(missing)}, which dedup_parquet does not have: it has "
            f"{', '.join(rows.column_names)}."
        )
    sources = {"uid": "uid", **{name: name for name in additional}, "caption": "TEXT", "url": "URL"}
    columns = [rows.column(source).to_pylist() for source in sources.values()]
    return [dict(zip(sources, values, strict=True)) for values in zip(*columns, strict=True)]


def _failed(images: ImageSettings, fetched: Fetched) -> dict[str, Any]:
    """The columns behind the key of a row whose file did not come."""
    return _columns(images, DOWNLOAD_STATUS, f"{fetched.reason.value}: {fetched.detail}")


def _resized(images: ImageSettings, body: bytes, answer: "Answer") -> tuple[dict[str, Any], Reason, bytes | None]:
    """The columns behind the key of a row whose file came, its reason, and its picture if it has one."""
    picture, width, height, original_width, original_height, error = answer.reencoded
    if error is not None:
        return _columns(images, RESIZE_STATUS, error), Reason.of_message(RESIZE_STATUS, error), None
    row = _columns(images, SUCCESS_STATUS, None)
    row |= {"width": width, "height": height, "original_width": original_width, "original_height": original_height}
    if images.extract_exif:
        row["exif"] = answer.exif
    if images.compute_hash != "none":
        row[images.compute_hash] = hashlib.new(images.compute_hash, body).hexdigest()
    return row, Reason.SUCCESS, picture


def _columns(images: ImageSettings, status: str, error: str | None) -> dict[str, Any]:
    """The columns behind the key, in their order, without values of a picture."""
    row: dict[str, Any] = {"status": status, "error_message": error}
    row |= dict.fromkeys(("width", "height", "original_width", "original_height"))
    if images.extract_exif:
        row["exif"] = None
    if images.compute_hash != "none":
        row[images.compute_hash] = None
    return row


def _stats(outcomes: "Counter[str]", started: float) -> dict[str, Any]:
    """img2dataset's stats; the counts of rows are put in later, recounted from the files."""
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
