"""The engine img2dataset: its own Downloader and Resizer fetch and resize the rows of a shard.

Its connections go through our address guard, and its rows through our writer, so that the files have the order, the
columns and the row-count invariant of every shard. Only a worker that runs this engine imports img2dataset.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import SAMPLES_PER_SHARD_KEY, ShardNumber
from laion_assets.http.fetch import Fetched
from laion_assets.http.fetch_queue import FetchTotals
from laion_assets.http.urllib_opener.opener import GuardedOpener
from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.local_failures.watch import ShardWatch
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.image_shards.shard.columns import add_kept_columns, shard_schema
from laion_assets.stages.image_shards.shard.fetch import (
    SUFFIXES,
    FetchedRows,
    make_stats,
    plan_passes,
    read_carried_columns,
)
from laion_assets.stages.image_shards.shard.writer import ShardWriter

if TYPE_CHECKING:
    import pyarrow as pa


def fetch_rows(
    dataset: Dataset, shard: ShardNumber, rows: "pa.Table", positions: Sequence[int], folder: Path, watch: ShardWatch
) -> FetchedRows:
    """Fetch these rows of dedup_parquet with img2dataset. The contract is that of `shard.fetch.fetch_rows`."""
    from laion_assets.stages.image_shards.img2dataset.bounded_resizer import BoundedResizer
    from laion_assets.stages.image_shards.img2dataset.guarded_downloader import load_guarded_module
    from laion_assets.stages.image_shards.img2dataset.row_collector import RowCollector

    started = time.time()
    images, layout = add_kept_columns(dataset), dataset.layout
    carried = read_carried_columns(images, rows)
    keys = [layout.sample_key(shard, position) for position in positions]
    folder.mkdir()
    files = {suffix: folder / f"{layout.shard_key(shard)}{suffix}" for suffix in SUFFIXES}
    schema = shard_schema(images, dataset.dedup.kept)
    opener = GuardedOpener(dataset.fetch_policy)
    module = load_guarded_module(opener)
    resizer = BoundedResizer(images)
    writer = ShardWriter(files[".tar"], files[".parquet"], schema, images.encode_format)
    outcomes: dict[int, str] = {}
    unreadable: set[int] = set()
    requests = 0

    def add(place: int, fetched: Fetched, row: dict[str, Any], reason: Reason, image: bytes | None) -> None:
        writer.add({**carried[place], "key": keys[place], **row}, reason, image)
        outcomes[place] = row["error_message"] or row["status"]
        if images.extract_exif and image is not None and row["exif"] is None:
            unreadable.add(place)
        watch.add(place, fetched, reason)

    for places, threads in plan_passes(len(carried), images.threads, watch):
        chosen = [carried[place] for place in places]
        requests += len(chosen)
        collector = RowCollector(images, opener, places, [row["url"] for row in chosen], add)
        downloader = module.Downloader(
            sample_writer_class=lambda *args, collector=collector: collector,
            resizer=resizer,
            thread_count=threads,
            output_folder=str(folder),
            column_list=list(carried_column_names(images)),
            **_options(images),
        )
        # In shard 0 img2dataset's key of a row is its number.
        downloader.download_shard((0, str(_write_arrow(chosen, schema, images, folder / "rows.arrow"))))
        collector.finish()
    failing = watch.finish()
    writer.close()
    stats = make_stats(Counter(outcomes.values()), started)
    files["_stats.json"].write_text(json.dumps(stats, indent=4), encoding="utf-8")
    return FetchedRows(files, {**_tally(opener, requests), "exif_unreadable": len(unreadable)}, failing)


def carried_column_names(images: ImageSettings) -> tuple[str, ...]:
    """The columns that img2dataset copies: its save_additional_columns, caption and url."""
    return ("uid", *(name for name in images.additional_columns if name != "uid"), "caption", "url")


def _options(images: ImageSettings) -> dict[str, Any]:
    """The Downloader's parameters that are settings."""
    return {
        "save_caption": True,
        "extract_exif": images.extract_exif,
        "timeout": images.fetch.connect_timeout_s,
        "number_sample_per_shard": SAMPLES_PER_SHARD_KEY,
        "oom_shard_count": 5,
        "compute_hash": None if images.compute_hash == "none" else images.compute_hash,
        "verify_hash_type": None,
        "encode_format": images.encode_format,
        "retries": images.fetch.retries,
        "user_agent_token": None,  # the opener sends images.fetch.user_agent
        "disallowed_header_directives": list(images.fetch.opt_out_directives),
    }


def _write_arrow(rows: list[dict[str, Any]], schema: "pa.Schema", images: ImageSettings, path: Path) -> Path:
    """Write the rows as img2dataset's reader does: one Arrow file, which its Downloader removes at the end."""
    import pyarrow as pa

    table = pa.Table.from_pylist(rows, pa.schema([schema.field(name) for name in carried_column_names(images)]))
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)
    return path


def _tally(opener: GuardedOpener, requests: int) -> dict[str, float]:
    """The figures of our engine's tally."""
    visits = opener.visits
    return FetchTotals(
        requests=requests,
        attempts=len(visits),
        wire_bytes=sum(visit.wire_bytes for visit in visits),
        body_bytes=sum(visit.body_bytes for visit in visits),
        seconds=sum(visit.ended - visit.started for visit in visits),
    ).as_dict()
