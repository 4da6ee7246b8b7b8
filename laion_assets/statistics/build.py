"""`dataset_statistics` and `image_statistics`: counted in parts, added up, published as JSON and parquet."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from laion_assets.commit.manifest import Counts, Manifest, read_manifest
from laion_assets.commit.publication import publication, recover
from laion_assets.commit.store import Store
from laion_assets.datasets import Dataset
from laion_assets.errors import IncompleteError
from laion_assets.freshness import inputs_digest, settings_digest
from laion_assets.handles import DATASET_STATISTICS, HANDLES, IMAGE_STATISTICS, STATISTICS, Statistics
from laion_assets.statistics.counts import of_measure
from laion_assets.statistics.parts import counted, parts_of
from laion_assets.statistics.report import report_page
from laion_assets.statistics.summary import dataset_summary, image_summary

REPORT = "statistics/report.html"
"""The page of both; made anew whenever one of them is, from what is published, so it has no manifest of its own."""


def build_statistics(dataset: Dataset, store: Store, asset: str, say: Callable[[str], None]) -> Manifest:
    """Count what is published of the stage before, publish counts and figures, and write the report.

    Partitions that are not published yet are left out and the figures say so; the statistics count as stale once there
    are more. Raises IncompleteError if there are none.
    """
    recover(store, asset)
    parts = parts_of(dataset, store, asset)
    if not parts:
        raise IncompleteError(
            f"nothing of {STATISTICS[asset]} of {dataset.name} is published: materialize some of its partitions first."
        )
    manifests = [manifest for part in parts for manifest in part.manifests]
    if asset == DATASET_STATISTICS:
        summarise, measure, rows = dataset_summary, "nsfw", sum(each.counts.rows_out for each in manifests)
    else:
        summarise, measure, rows = image_summary, "status", sum(each.counts.rows_in for each in manifests)
    with publication(store, asset) as attempt:
        table = counted(dataset, store, asset, parts, say)
        summary = summarise(table, manifests, len(HANDLES[STATISTICS[asset]].numbers(dataset.layout)))
        pq.write_table(table, attempt.stage(Statistics.counts_path(asset)), compression="zstd")
        attempt.stage(Statistics.summary_path(asset)).write_text(json.dumps(summary, indent=1, ensure_ascii=False))
        manifest = attempt.commit(
            Counts(rows, sum(of_measure(table, measure).values())),
            settings=settings_digest(dataset, asset),
            inputs=inputs_digest("all", manifests),
            details={"partitions": len(manifests)},
        )
    write_report(dataset, store)
    say(f"report: {store.address(REPORT)}")
    return manifest


def read_summaries(store: Store) -> dict[str, Any]:
    """The published figures by asset; those that are not published are left out."""
    found = {}
    for asset in (DATASET_STATISTICS, IMAGE_STATISTICS):
        if read_manifest(store, asset, "all") is not None:
            found[asset] = json.loads(store.read_bytes(Statistics.summary_path(asset)))
    return found


def write_report(dataset: Dataset, store: Store) -> None:
    """Write `statistics/report.html` from what is published. Raises IncompleteError if nothing is."""
    summaries = read_summaries(store)
    if not summaries:
        raise IncompleteError(
            f"no statistics of {dataset.name} are published: materialize its {DATASET_STATISTICS} and "
            f"{IMAGE_STATISTICS} first."
        )
    tables = {}
    for asset in summaries:
        with store.open(Statistics.counts_path(asset)) as file:
            tables[asset] = pq.read_table(file)
    store.write_bytes(REPORT, report_page(dataset.name, dataset.description, summaries, tables).encode())
