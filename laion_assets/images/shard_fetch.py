"""The pictures of some rows of a shard: fetched, resized and packed into a tar, a parquet and stats in a folder.

Three work at once: threads fetch, the decoder's process makes pictures of the bodies, and this thread hands over
between them and completes each row. Formats and columns are img2dataset's. Worker-side: heavy libraries are imported
inside.
"""

import hashlib
import json
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.datasets import Dataset
from laion_assets.errors import ShardError
from laion_assets.http.fetch import Fetched, shared_fetcher
from laion_assets.http.fetch_queue import FetchQueue
from laion_assets.http.policy import FetchPolicy
from laion_assets.images.exif import exif_json
from laion_assets.images.settings import ImageSettings
from laion_assets.reasons import DOWNLOAD_STATUS, RESIZE_STATUS, SUCCESS_STATUS, Reason

if TYPE_CHECKING:
    import pyarrow as pa

    from laion_assets.images.reencoding import Reencoded

SUFFIXES = (".tar", ".parquet", "_stats.json")


@dataclass(frozen=True)
class FetchedRows:
    """What fetching made: local files by suffix, and the run's own figures (requests, bytes, seconds)."""

    files: dict[str, Path]
    tally: dict[str, float]


def fetch_rows(dataset: Dataset, shard: int, rows: "pa.Table", positions: Sequence[int], folder: Path) -> FetchedRows:
    """Fetch these rows of dedup_parquet, whose places in the shard are `positions`, into a new `folder`.

    Every row is in the parquet with its outcome, and in the tar where it has a picture, under the key of its place:
    as bytes, the same as in a shard that is fetched whole. Raises ShardError for a column that is not there and for a
    decoder that does not start, OSError for a disk that fails.
    """
    from laion_assets.images.decoder_process import Decoder
    from laion_assets.images.shard_schema import shard_schema
    from laion_assets.images.shard_writer import ShardWriter

    started = time.time()
    images, layout = dataset.images, dataset.layout
    carried = _carried(images, rows)
    keys = [layout.sample_key(shard, position) for position in positions]
    folder.mkdir()
    files = {suffix: folder / f"{layout.shard_key(shard)}{suffix}" for suffix in SUFFIXES}
    writer = ShardWriter(files[".tar"], files[".parquet"], shard_schema(images), images.encode_format)
    outcomes: Counter[str] = Counter()

    def add(place: int, row: dict[str, Any], reason: Reason, picture: bytes | None = None) -> None:
        writer.add({**carried[place], "key": keys[place], **row}, reason, picture)
        outcomes[row["error_message"] or row["status"]] += 1

    fetcher = shared_fetcher(FetchPolicy.of(images, dataset.resolve, dataset.blocked_networks))
    waiting: deque[tuple[int, Fetched]] = deque()
    left = len(carried)
    with (
        Decoder(images) as decoder,
        FetchQueue(fetcher, [row["url"] for row in carried], images.threads) as queue,
    ):
        while left:
            answer = None if decoder.full or len(waiting) == left else queue.take(wait=not waiting)
            if answer is not None and answer[1].reason is Reason.SUCCESS:
                waiting.append(answer)
                decoder.put(answer[1].body)
                continue
            if answer is not None:
                add(answer[0], _failed(images, answer[1]), answer[1].reason)
            else:
                place, fetched = waiting.popleft()
                row, reason, picture = _resized(images, fetched.body, decoder.take())
                queue.done(fetched)
                add(place, row, reason, picture)
            left -= 1
    writer.close()
    files["_stats.json"].write_text(json.dumps(_stats(outcomes, started), indent=4))
    return FetchedRows(files, queue.tally.as_dict())


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


def _resized(images: ImageSettings, body: bytes, reencoded: "Reencoded") -> tuple[dict[str, Any], Reason, bytes | None]:
    """The columns behind the key of a row whose file came, its reason, and its picture if it has one."""
    picture, width, height, original_width, original_height, error = reencoded
    if error is not None:
        return _columns(images, RESIZE_STATUS, error), Reason.of_message(RESIZE_STATUS, error), None
    row = _columns(images, SUCCESS_STATUS, None)
    row |= {"width": width, "height": height, "original_width": original_width, "original_height": original_height}
    if images.extract_exif:
        row["exif"] = exif_json(body, images.keep_personal_exif)
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
