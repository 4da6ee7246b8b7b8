"""Build `dataset_statistics` and `image_statistics`: count in parts, add up, commit as JSON and parquet."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError
from laion_assets.stages.registry import find_stage
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.statistics.charts import Chart, dataset_charts, image_charts
from laion_assets.stages.statistics.counts import of_measure
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS, Statistics
from laion_assets.stages.statistics.over_shards import SHARDS_SCHEMA, shard_table
from laion_assets.stages.statistics.parts import count_parts, list_parts
from laion_assets.stages.statistics.report import report_page
from laion_assets.stages.statistics.summary import dataset_summary, image_summary
from laion_assets.stages.status import settings_digest
from laion_assets.store.foreign_files import foreign_files_error
from laion_assets.store.lease import has_moved_files
from laion_assets.store.manifest import (
    WHOLE,
    Counts,
    Manifest,
    manifest_path,
    read_committed_file,
    read_manifest,
)
from laion_assets.store.store import Store
from laion_assets.store.stored_json import parse_object
from laion_assets.store.transaction import open_transaction, recover

REPORT = "statistics/report.html"
"""The report on both assets. It is rewritten whenever one of them is built, and so has no manifest."""


def build_statistics(dataset: Dataset, store: Store, asset: str, log: Callable[[str], None]) -> Manifest:
    """Count the committed partitions of the upstream stage, commit counts and figures, and write the report.

    Partitions that are not committed yet are left out, and the figures state how many were counted. The statistics
    become stale when more partitions are committed. Raises IncompleteError if there are none.
    """
    recover(store, asset)
    _check_report(store)
    before, numbers = find_stage(asset).upstream_partitions(dataset, 0)
    assert before is not None
    parts = list_parts(dataset, store, asset)
    if not parts:
        raise IncompleteError(
            f"No partition of {dataset.name}/{before.name} is committed: materialize some of its partitions first."
        )
    manifests = [manifest for part in parts for manifest in part.manifests]
    if asset == DATASET_STATISTICS:
        summarize, measure, rows = dataset_summary, "nsfw", sum(each.counts.rows_out for each in manifests)
    else:
        summarize, measure, rows = image_summary, "status", sum(each.counts.rows_in for each in manifests)
    with open_transaction(store, asset) as transaction:
        table = count_parts(dataset, store, asset, parts, log)
        summary = summarize(table, manifests, len(numbers))
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
    """Raise StoreError if there is a report but no statistics were ever committed: another program wrote it."""
    if not store.exists(REPORT):
        return
    for asset in (DATASET_STATISTICS, IMAGE_STATISTICS):
        if store.exists(manifest_path(asset, WHOLE)) or has_moved_files(store, asset, WHOLE):
            return
    raise foreign_files_error(store, "the report", [REPORT])


def read_summaries(store: Store) -> dict[str, Any]:
    """Read the committed figures by asset; assets that are not committed are left out."""
    found = {}
    for asset in (DATASET_STATISTICS, IMAGE_STATISTICS):
        if (manifest := read_manifest(store, asset, "all")) is not None:
            found[asset] = read_summary(store, manifest)
    return found


def read_summary(store: Store, manifest: Manifest) -> dict[str, Any]:
    """Read the figures of a committed statistics asset. Raises IntegrityError if they differ from its manifest."""
    entry = manifest.entry(Statistics.summary_path(manifest.asset))
    try:
        return parse_object(read_committed_file(store, entry))
    except ValueError as error:
        raise IntegrityError(
            f"{store.address(entry.path)} is not a JSON object ({error}). Materialize {manifest.asset} again."
        ) from error


def write_report(dataset: Dataset, store: Store) -> None:
    """Write `statistics/report.html` from the committed statistics. Raises IncompleteError if there are none."""
    summaries = read_summaries(store)
    if not summaries:
        raise IncompleteError(
            f"{dataset.name} has no statistics yet. Materialize its {DATASET_STATISTICS} and {IMAGE_STATISTICS} first."
        )
    charts = {asset: read_charts(store, asset, summary) for asset, summary in summaries.items()}
    store.write_bytes(REPORT, report_page(dataset.name, dataset.description, summaries, charts).encode())


def read_charts(store: Store, asset: str, summary: dict[str, Any]) -> list[Chart]:
    """Draw the plots of a committed statistics asset with these figures."""

    def table(path: str) -> pa.Table:
        with store.open(path) as file:
            return pq.read_table(file)

    counts = table(Statistics.counts_path(asset))
    if asset == DATASET_STATISTICS:
        return dataset_charts(summary, counts)
    # Stale statistics of an older version are still shown; they have no such table, or one with other columns.
    shards = table(Statistics.shards_path()) if store.size(Statistics.shards_path()) is not None else None
    is_current = shards is not None and shards.schema.names == SHARDS_SCHEMA.names
    return image_charts(summary, counts, shards if is_current else SHARDS_SCHEMA.empty_table())
