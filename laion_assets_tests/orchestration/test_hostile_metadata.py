"""Untrusted text reaches the Dagster UI as text and table cells: no markup, no invisible character."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.orchestration.checks.row_counts import row_count_checks
from laion_assets.orchestration.checks.up_to_date import summarize
from laion_assets.orchestration.resources.clip_model import ClipModelResource
from laion_assets.orchestration.stage_parts import load_io_manager
from laion_assets.orchestration.ui.metadata_values import images, table, text
from laion_assets.stages import registry
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import STAGES, list_stages
from laion_assets.stages.stage import Stage
from laion_assets.stages.status import PartitionState, State
from laion_assets_tests.hostile_dataset import hostile_manifest, publish_hostile
from laion_assets_tests.hostile_text import HOSTILE, INVISIBLE, markup

OURS = re.compile(
    r"(table|thead|tbody|tr|th|td)_(open|close)$|link_open  \{'href': '/(assets|runs)/[\w/?=&%.-]*'\}$|link_close"
)
"""Markup of metadata that this project writes: tables, and links within the Dagster UI."""


@pytest.fixture
def hostile(dataset: Dataset) -> Dataset:
    return publish_hostile(dataset)


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
            assert [found for found in markup(value.md_str or "") if not OURS.match(found)] == []
            shown = [name]
        assert not isinstance(value, dg.UrlMetadataValue)
        assert not [part for part in shown if INVISIBLE.search(part)]
        assert max(map(len, shown)) <= 4_000


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_metadata_of_a_partition_is_inert(hostile: Dataset, stage: Stage) -> None:
    metadata = load_io_manager(stage, hostile).build_metadata(0, hostile_manifest(hostile, stage.name))
    assert {"files", "dropped_by_reason"} < set(metadata)
    assert_inert(metadata)
    told = json.dumps([list(texts(value)) for value in metadata.values()])
    assert "leak.test" in told, "what strangers wrote is shown, as text"


def test_results_of_checks_are_inert(hostile: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def problems(*_: object) -> Iterator[str]:
        yield from HOSTILE[:2]
        raise SourceError(HOSTILE[0])

    monkeypatch.setattr(registry, "STAGES", [replace(STAGES[0], invariant=HOSTILE[0]), *STAGES[1:]])
    monkeypatch.setattr("laion_assets.stages.raw_csv.check.find_problems", problems)
    check = next(
        check
        for check in row_count_checks(hostile, list_stages(hostile))
        if next(iter(check.check_keys)).asset_key.path[-1] == RAW_CSV
    )
    (found,) = dg.materialize(
        [dg.AssetSpec([hostile.name, RAW_CSV]), check],
        selection=dg.AssetSelection.checks(check),
        resources={f"{hostile.name}_clip_model": ClipModelResource(model="", device="cpu", precision="fp32")},
        instance=dg.DagsterInstance.ephemeral(),
    ).get_asset_check_evaluations()
    assert not found.passed
    assert_inert(dict(found.metadata))
    assert markup(found.description or "") == []
    states = [PartitionState(RAW_CSV, f"{number}", State.DAMAGED, why) for number, why in enumerate(HOSTILE)]
    result = summarize(states, "all")
    assert_inert(dict(result.metadata))
    assert markup(result.description or "") == []


def test_a_table_has_its_columns_without_rows_and_counts_the_rows_left_out() -> None:
    empty = table(("file", "rows"), [])
    assert [column.name for column in empty.schema.columns] == ["file", "rows"]
    long = table(("rows", "file"), [(number, "a") for number in range(70)], limit=3)
    assert [record.data["rows"] for record in long.records] == [0, 1, 2, "... and 67 more"]
    odd = table(("value",), [(2**60,), (float("nan"),), (float("inf"),), (None,), (True,), (0.5,)])
    assert [record.data["value"] for record in odd.records] == [str(2**60), "nan", "inf", None, True, 0.5]
    json.loads(json.dumps([record.data for record in odd.records], allow_nan=False))


def test_text_and_cells_are_truncated() -> None:
    assert len(text("a" * 61_192).text or "") == 300
    assert len(str(table(("caption",), [("a" * 61_192,)]).records[0].data["caption"])) == 300


def test_images_are_data_urls_with_a_title_without_markup() -> None:
    made = images([(title, "image/png", b"\x89PNG") for title in HOSTILE])
    assert markup(made.md_str or "") == []
    assert (made.md_str or "").count("](data:image/png;base64,") == len(HOSTILE)
