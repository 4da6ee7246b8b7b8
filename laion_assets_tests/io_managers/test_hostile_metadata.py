"""Whatever strangers wrote, the Dagster UI gets it as text and table cells: no markup, no invisible character."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.checks import recount as recount_module
from laion_assets.checks.recount import recount_checks
from laion_assets.checks.up_to_date import judgement
from laion_assets.commit.manifest import Counts, FileEntry, Manifest
from laion_assets.commit.store import Store
from laion_assets.datasets import Dataset
from laion_assets.definitions import IO_MANAGERS
from laion_assets.errors import SourceError
from laion_assets.freshness import PartitionState
from laion_assets.handles import (
    CLIP_EMBEDDINGS,
    DATASET_STATISTICS,
    HANDLES,
    IMAGE_STATISTICS,
    RAW_CSV,
    ClipEmbeddings,
    PublishedParquet,
)
from laion_assets.io_managers.metadata_values import images, table, text
from laion_assets.layout import Layout
from laion_assets.resources.clip_model import ClipModelResource
from laion_assets.statistics.build import build_statistics
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE, markup
from laion_assets_tests.statistics.tables import dedup_rows, publish_dedup, publish_shard, shard_rows

HOSTILE_COUNTS = Counts(len(HOSTILE), 0, dict.fromkeys(HOSTILE, 1))
HOSTILE_FILES = tuple(FileEntry(name, 1, "0" * 64) for name in HOSTILE)
DETAILS = {
    "changes": dict.fromkeys(HOSTILE, 1),
    "vanished": {name: name for name in HOSTILE},
    "retries": [{"at": name, "retried": 1, "recovered": 0, "reasons": {name: 1}} for name in HOSTILE],
    **{name: name for name in ("model", "width", "device", "precision")},
    **{name: {name: [name]} for name in HOSTILE},
    "plain": HOSTILE[0],
}


@pytest.fixture
def hostile(dataset: Dataset) -> Dataset:
    """Rows whose every text is hostile, and statistics of them."""
    dataset = replace(dataset, layout=Layout(1, 1, 1, 250))
    rows = dedup_rows(0, len(HOSTILE))
    for row, name in zip(rows, HOSTILE, strict=True):
        name = name.encode("utf-8", "replace").decode()
        row.update(URL=f"http://{name}/", TEXT=name, LICENSE=name, NSFW=name, source_file=name)
    publish_dedup(dataset, 0, rows)
    found = shard_rows(0, len(HOSTILE))
    for row, name in zip(found, HOSTILE, strict=True):
        if row["reason"] != "success":
            row.update(reason=name, status=name)
        row.update(url=f"http://{name}/")
    publish_shard(dataset, 0, found)
    for asset in (DATASET_STATISTICS, IMAGE_STATISTICS):
        build_statistics(dataset, Store.of(dataset), asset, lambda line: None)
    store = Store.of(dataset)
    published = [{"path": name, "url": name, "size": 1, "version": name, "rows": 1, "footer": name} for name in HOSTILE]
    store.write_bytes(PublishedParquet.LIST, json.dumps(published).encode())
    embedded = pa.table({name: list(HOSTILE) for name in ("image_path", "uid", "caption")})
    path = Path(store.url) / ClipEmbeddings.path(dataset.layout, 0, "metadata")
    path.parent.mkdir(parents=True)
    pq.write_table(embedded, path)
    return dataset


def texts(value: Any) -> Iterator[str]:
    """Every text of a metadata value."""
    if isinstance(value, dg.TableMetadataValue):
        yield from (column.name for column in value.schema.columns)
        for record in value.records:
            yield from texts(record.data)
    elif isinstance(value, dg.MetadataValue):
        yield from texts(value.value)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)


def assert_inert(metadata: dict[str, Any]) -> None:
    for name, value in metadata.items():
        shown = [name, *texts(value)]
        if isinstance(value, dg.MarkdownMetadataValue):
            assert markup(value.md_str) == []
            shown = [name]
        if isinstance(value, dg.UrlMetadataValue):
            assert value.url.startswith("/assets/")
        assert not [part for part in shown if INVISIBLE.search(part)]
        assert max(map(len, shown)) <= 4_000


@pytest.mark.parametrize("manager", IO_MANAGERS, ids=lambda manager: manager.asset)
def test_metadata_of_a_partition_is_inert(hostile: Dataset, manager: type[Any]) -> None:
    asset = manager.asset
    key = HANDLES[asset].key(hostile.layout, 0)
    details = DETAILS if asset != CLIP_EMBEDDINGS else dict.fromkeys(("model", "device"), HOSTILE[1])
    manifest = Manifest(
        asset, key, HOSTILE_FILES, HOSTILE_COUNTS, "", "", published_at=HOSTILE[0], seconds=1.0, details=details
    )
    metadata = manager(hostile).metadata_of(0, manifest)
    assert {"files", "dropped_by_reason"} < set(metadata)
    assert_inert(metadata)
    told = json.dumps([list(texts(value)) for value in metadata.values()])
    assert "leak.test" in told, "what strangers wrote is shown, as text"


def test_results_of_checks_are_inert(hostile: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def problems(*_: object) -> Iterator[str]:
        yield from HOSTILE[:2]
        raise SourceError(HOSTILE[0])

    monkeypatch.setitem(recount_module.RECOUNTS, RAW_CSV, (problems, HOSTILE[0]))
    check = next(
        check for check in recount_checks(hostile) if next(iter(check.check_keys)).asset_key.path[-1] == RAW_CSV
    )
    (found,) = dg.materialize(
        [dg.AssetSpec([hostile.name, RAW_CSV]), check],
        selection=dg.AssetSelection.checks(check),
        resources={"clip_model": ClipModelResource(model="", device="cpu", precision="fp32")},
        instance=dg.DagsterInstance.ephemeral(),
    ).get_asset_check_evaluations()
    assert not found.passed
    assert_inert(dict(found.metadata))
    assert markup(found.description or "") == []
    states = [PartitionState(RAW_CSV, number, f"{number}", "damaged", why) for number, why in enumerate(HOSTILE)]
    result = judgement(states, "all")
    assert_inert(dict(result.metadata))
    assert markup(result.description or "") == []


def test_a_table_has_its_columns_without_rows_and_says_how_many_rows_are_left_out() -> None:
    empty = table(("file", "rows"), [])
    assert [column.name for column in empty.schema.columns] == ["file", "rows"]
    long = table(("rows", "file"), [(number, "a") for number in range(70)], limit=3)
    assert [record.data["rows"] for record in long.records] == [0, 1, 2, "... and 67 more"]
    odd = table(("value",), [(2**60,), (float("nan"),), (float("inf"),), (None,), (True,), (0.5,)])
    assert [record.data["value"] for record in odd.records] == [str(2**60), "nan", "inf", None, True, 0.5]
    json.loads(json.dumps([record.data for record in odd.records], allow_nan=False))


def test_text_and_cells_are_cut() -> None:
    assert len(text("a" * 61_192).text or "") == 300
    assert len(str(table(("caption",), [("a" * 61_192,)]).records[0].data["caption"])) == 300


def test_images_are_data_of_ours_under_a_title_without_markup() -> None:
    made = images([(title, "image/png", b"\x89PNG") for title in HOSTILE])
    assert markup(made.md_str or "") == []
    assert (made.md_str or "").count("](data:image/png;base64,") == len(HOSTILE)
