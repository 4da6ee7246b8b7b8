"""`dataset_statistics` and `image_statistics`: counted in parts, added up, published as JSON and parquet."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError
from laion_assets.stages.handles import DATASET_STATISTICS, IMAGE_STATISTICS, Statistics
from laion_assets.stages.registry import stage_named
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.statistics.charts import Chart, dataset_charts, image_charts
from laion_assets.stages.statistics.counts import of_measure
from laion_assets.stages.statistics.over_shards import SHARDS_SCHEMA, shard_table
from laion_assets.stages.statistics.parts import counted, parts_of
from laion_assets.stages.statistics.report import report_page
from laion_assets.stages.statistics.summary import dataset_summary, image_summary
from laion_assets.stages.status import settings_digest
from laion_assets.store.foreign_files import foreign_files_error
from laion_assets.store.lease import is_committed
from laion_assets.store.manifest import (
    WHOLE,
    Counts,
    Manifest,
    manifest_path,
    read_manifest,
    read_published,
)
from laion_assets.store.store import Store
from laion_assets.store.stored_json import parse_object
from laion_assets.store.transaction import open_transaction, recover

REPORT = "statistics/report.html"
"""The page of both; made anew whenever one of them is, from what is published, so it has no manifest of its own."""


def build_statistics(dataset: Dataset, store: Store, asset: str, log: Callable[[str], None]) -> Manifest:
    """Count what is published of the stage before, publish counts and figures, and write the report.

    Partitions that are not published yet are left out and the figures say so; the statistics count as stale once there
    are more. Raises IncompleteError if there are none.
    """
    recover(store, asset)
    _check_report(store)
    before, numbers = stage_named(asset).upstream_partitions(dataset, 0)
    assert before is not None
    parts = parts_of(dataset, store, asset)
    if not parts:
        raise IncompleteError(
            f"No partition of {dataset.name}/{before.name} is committed: materialize some of its partitions first."
        )
    manifests = [manifest for part in parts for manifest in part.manifests]
    if asset == DATASET_STATISTICS:
        summarise, measure, rows = dataset_summary, "nsfw", sum(each.counts.rows_out for each in manifests)
    else:
        summarise, measure, rows = image_summary, "status", sum(each.counts.rows_in for each in manifests)
    with open_transaction(store, asset) as transaction:
        table = counted(dataset, store, asset, parts, log)
        summary = summarise(table, manifests, len(numbers))
        pq.write_table(table, transaction.stage(Statistics.counts_path(asset)), compression="zstd")
        if asset == IMAGE_STATISTICS:
            shards = transaction.stage(Statistics.shards_path(), repeatable=False)
            pq.write_table(shard_table(manifests), shards, compression="zstd")
        transaction.stage(Statistics.summary_path(asset)).write_text(
            json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        manifest = transaction.commit(
            Counts(rows, sum(of_measure(table, measure).values())),
            settings=settings_digest(dataset, asset),
            inputs=inputs_digest("all", manifests),
            details={"partitions": len(manifests)},
        )
    write_report(dataset, store)
    log(f"report: {store.address(REPORT)}")
    return manifest


def _check_report(store: Store) -> None:
    """Raise StoreError for a report that this program did not write: no statistics were ever published here."""
    if not store.is_taken(REPORT):
        return
    for asset in (DATASET_STATISTICS, IMAGE_STATISTICS):
        if store.is_taken(manifest_path(asset, WHOLE)) or is_committed(store, asset, WHOLE):
            return
    raise foreign_files_error(store, "the report", [REPORT])


def read_summaries(store: Store) -> dict[str, Any]:
    """The published figures by asset; those that are not published are left out."""
    found = {}
    for asset in (DATASET_STATISTICS, IMAGE_STATISTICS):
        if (manifest := read_manifest(store, asset, "all")) is not None:
            found[asset] = read_summary(store, manifest)
    return found


def read_summary(store: Store, manifest: Manifest) -> dict[str, Any]:
    """The figures of a published statistics asset. Raises IntegrityError unless they are what its manifest says."""
    entry = manifest.entry(Statistics.summary_path(manifest.asset))
    try:
        return parse_object(read_published(store, entry))
    except ValueError as error:
        raise IntegrityError(
            f"{store.address(entry.path)} is not a JSON object ({error}): materialize {manifest.asset} again."
        ) from error


def write_report(dataset: Dataset, store: Store) -> None:
    """Write `statistics/report.html` from what is published. Raises IncompleteError if nothing is."""
    summaries = read_summaries(store)
    if not summaries:
        raise IncompleteError(
            f"no statistics of {dataset.name} are published: materialize its {DATASET_STATISTICS} and "
            f"{IMAGE_STATISTICS} first."
        )
    charts = {asset: read_charts(store, asset, summary) for asset, summary in summaries.items()}
    store.write_bytes(REPORT, report_page(dataset.name, dataset.description, summaries, charts).encode())


def read_charts(store: Store, asset: str, summary: dict[str, Any]) -> list[Chart]:
    """The plots of a published statistics asset with these figures."""

    def table(path: str) -> pa.Table:
        with store.open(path) as file:
            return pq.read_table(file)

    counts = table(Statistics.counts_path(asset))
    if asset == DATASET_STATISTICS:
        return dataset_charts(summary, counts)
    # Statistics of an older version, stale and still shown, have no such table.
    known = store.size(Statistics.shards_path()) is not None
    return image_charts(summary, counts, table(Statistics.shards_path()) if known else SHARDS_SCHEMA.empty_table())
