"""A dataset with hostile text everywhere: rows, file names, reasons, details of manifests."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.published_parquet.handle import PUBLISHED_PARQUET, PublishedParquet
from laion_assets.stages.registry import find_stage
from laion_assets.stages.search_report.handle import CONTACT_SHEET, FIGURES, PAGE, SEARCH_REPORT
from laion_assets.stages.statistics.build import build_statistics
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS
from laion_assets.store.manifest import Counts, FileEntry, Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets_tests.hostile_text import HOSTILE
from laion_assets_tests.stages.statistics.tables import commit_dedup, commit_shard, dedup_rows, shard_rows

DETAILS = {
    "changes": dict.fromkeys(HOSTILE, 1),
    "deleted_at_source": {name: name for name in HOSTILE},
    "retries": [{"at": name, "retried": 1, "recovered": 0, "reasons": {name: 1}} for name in HOSTILE],
    **{name: name for name in ("model", "width", "device", "precision")},
    **{name: {name: [name]} for name in HOSTILE},
    "plain": HOSTILE[0],
}


def publish_hostile(dataset: Dataset) -> Dataset:
    """Commit one partition of most assets with hostile rows, and their statistics."""
    dataset = replace(dataset, layout=Layout(1, 1, 1, 250), description=HOSTILE[6])
    rows = dedup_rows(0, len(HOSTILE))
    for row, name in zip(rows, HOSTILE, strict=True):
        row.update(URL=f"http://{name}/", TEXT=name, LICENSE=name, NSFW=name, source_file=name)
    commit_dedup(dataset, 0, rows)
    found = shard_rows(0, len(HOSTILE))
    for row, name in zip(found, HOSTILE, strict=True):
        row.update(url=f"http://{name}/", status=name, reason="success" if row["reason"] == "success" else name)
    commit_shard(dataset, 0, found)
    for asset in (DATASET_STATISTICS, IMAGE_STATISTICS):
        build_statistics(dataset, Store.of(dataset), asset, lambda line: None)
    store = Store.of(dataset)
    listed = [{"path": name, "url": name, "size": 1, "version": name, "rows": 1, "footer": name} for name in HOSTILE]
    with open_transaction(store, PUBLISHED_PARQUET) as transaction:
        transaction.stage(PublishedParquet.LIST).write_text(json.dumps(listed), encoding="utf-8")
        transaction.commit(Counts(len(HOSTILE), len(HOSTILE)), settings="", inputs="")
    with open_transaction(store, SEARCH_REPORT) as transaction:
        transaction.stage(PAGE).write_text("", encoding="utf-8")
        transaction.stage(FIGURES).write_text(json.dumps(_hostile_figures()), encoding="utf-8")
        Image.new("RGB", (8, 8)).save(transaction.stage(CONTACT_SHEET), "PNG")
        transaction.commit(Counts(len(HOSTILE), len(HOSTILE)), settings="", inputs="")
    embedded = pa.table({name: list(HOSTILE) for name in ("image_path", "uid", "caption")})
    path = Path(store.url) / ClipEmbeddings.path(dataset.layout, 0, "metadata")
    path.parent.mkdir(parents=True)
    pq.write_table(embedded, path)
    return dataset


def _hostile_figures() -> dict[str, Any]:
    """Return the figures of a search report in which every text is hostile."""
    results = [{"uid": name, "caption": name, "similarity": 0.5} for name in HOSTILE]
    return {
        "model": HOSTILE[0],
        "recall": [{"index": name, "kind": name, "queries": 1, "recall_at_10": 1.0} for name in HOSTILE],
        "near_duplicates": {"images": 1, "first": 1, "in_ten": 1},
        "latency": [{"step": name, "samples": 1, "p50_ms": 1.0, "p99_ms": 1.0} for name in HOSTILE],
        "queries": [{"query": name, "hidden": 0, "results": results} for name in HOSTILE],
    }


def hostile_manifest(dataset: Dataset, asset: str) -> Manifest:
    """Return a manifest of partition 0 of an asset in which every text is hostile."""
    committed = read_manifest(Store.of(dataset), asset, find_stage(asset).handle.key(dataset.layout, 0))
    details = DETAILS if asset != CLIP_EMBEDDINGS else dict.fromkeys(("model", "device"), HOSTILE[1])
    return Manifest(
        asset,
        find_stage(asset).handle.key(dataset.layout, 0),
        (*(FileEntry(name, 1, "0" * 64) for name in HOSTILE), *(committed.files if committed else ())),
        Counts(len(HOSTILE), 0, dict.fromkeys(HOSTILE, 1)),
        "",
        "",
        committed_at=HOSTILE[0],
        seconds=1.0,
        details=details,
    )
