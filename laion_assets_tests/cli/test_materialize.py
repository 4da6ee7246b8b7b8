"""`laion-assets materialize`: the plan, the check of the source, and the question before work is repeated."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from laion_assets.cli import cli
from laion_assets.cli.dataset_option import load_dataset
from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.stages.raw_csv.handle import RAW_CSV
from laion_assets.stages.registry import find_stage
from laion_assets.stages.settings_record import record_settings
from laion_assets.stages.stage import inputs_digest
from laion_assets.store.manifest import Counts, Manifest, manifest_path, read_manifest
from laion_assets.store.store import Store

DECLARED = """
[dataset.mine]
layout = { parquet_files = 2, shards = 4, embedding_files = 2, rows_per_shard = 50 }
source = "csv"
model = "sample-clip"
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A dataset whose CSVs are fetched, and whose later partitions have manifests without files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    (tmp_path / "laion-assets.toml").write_text(DECLARED)
    (tmp_path / "csv").mkdir()
    for name in ("a", "b"):
        (tmp_path / "csv" / f"{name}.csv").write_text("URL|TEXT|similarity\n")
    dataset = load_dataset("mine")
    fetch_raw_csv(dataset, Store.of(dataset), lambda line: None)
    for asset, rows in ((DEDUP_PARQUET, 60), (IMAGE_SHARDS, 30), (CLIP_EMBEDDINGS, 60)):
        commit(dataset, asset, rows)
        record_settings(dataset, Store.of(dataset), find_stage(asset))
    return dataset


def commit(dataset: Dataset, asset: str, rows: int, partitions: Iterable[int] | None = None) -> None:
    """Write the manifests that these partitions (all if None) would have, without files."""
    stage, store, layout = find_stage(asset), Store.of(dataset), dataset.layout
    for number in stage.handle.numbers(layout) if partitions is None else partitions:
        before, numbers = stage.upstream_partitions(dataset, number)
        upstream = [read_manifest(store, before.name, before.handle.key(layout, each)) for each in numbers]
        key = stage.handle.key(layout, number)
        inputs = inputs_digest(key, [each for each in upstream if each is not None])
        # Each takes 2 s; two are built at a time.
        at = f"2026-01-01T00:00:{10 + number // 2 * 2:02d}+00:00"
        digest = stage.settings_digest(dataset)
        manifest = Manifest(asset, key, (), Counts(rows, rows), digest, inputs, committed_at=at, seconds=2.0)
        store.write_bytes(manifest_path(asset, key), manifest.to_json())


def run(*arguments: str, **options: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["materialize", "-d", "mine", *arguments], **options)
    return done.exit_code, done.output + (str(done.exception) if done.exception else "")


def plan(*arguments: str) -> dict[str, dict]:
    output = CliRunner().invoke(cli, ["materialize", "-d", "mine", "--dry-run", "--json", *arguments]).stdout
    return json.loads(output[output.index("{\n") :])


def change(mine: Dataset, name: str) -> None:
    """Correct a source file. Its date may be that of the last second."""
    path = Path(mine.source) / name
    path.write_text("URL|TEXT|similarity\nhttp://a.test/1.jpg|one|0.4\n")
    os.utime(path, (1, 1))


def test_a_corrected_csv_is_planned_and_fetched_again(mine: Dataset) -> None:
    assert plan()[RAW_CSV]["to_run"] == 0
    change(mine, "b.csv")
    found = plan()
    assert found[RAW_CSV]["why"] == {"source changed": 1}
    assert found[RAW_CSV]["changed_files"] == ["b.csv (changed)"]
    assert found[RAW_CSV]["bytes"] == (Path(mine.source) / "b.csv").stat().st_size
    assert (found[DEDUP_PARQUET]["to_run"], found[DEDUP_PARQUET]["may_run"]) == (0, 2)
    assert found[IMAGE_SHARDS]["may_run"] == 4
    assert plan("--no-refresh")[RAW_CSV]["to_run"] == 0

    assert "nothing to do" in run(RAW_CSV, "--no-refresh")[1]
    assert "1 of 1 partitions run" in run(RAW_CSV)[1]
    stored = Store.of(mine).read_bytes(f"{RAW_CSV}/b.csv")
    assert stored == (Path(mine.source) / "b.csv").read_bytes()
    assert "nothing to do" in run(RAW_CSV)[1]
    assert plan()[DEDUP_PARQUET]["why"] == {"inputs changed": 2}


def test_a_file_with_another_date_and_the_same_bytes_is_compared_once(mine: Dataset) -> None:
    os.utime(Path(mine.source) / "a.csv", (2, 2))
    assert plan()[RAW_CSV]["changed_files"] == ["a.csv (changed)"]
    run(RAW_CSV)
    found = plan()
    assert (found[RAW_CSV]["to_run"], found[DEDUP_PARQUET]["to_run"]) == (0, 0)


def test_new_and_deleted_files_are_named(mine: Dataset) -> None:
    (Path(mine.source) / "a.csv").rename(Path(mine.source) / "c.csv")
    assert plan()[RAW_CSV]["changed_files"] == ["c.csv (new)", "a.csv (deleted)"]
    run(RAW_CSV)  # keeps the deleted file and marks it
    assert plan()[RAW_CSV]["to_run"] == 0


def test_a_source_that_cannot_be_listed_names_the_option(mine: Dataset) -> None:
    (Path(mine.source)).rename(Path(mine.source).with_name("other"))
    status, output = run(RAW_CSV)
    assert status == 1
    assert "Cannot list the source csv" in output
    assert "add --no-refresh" in output
    assert run(RAW_CSV, "--no-refresh")[0] == 0


def test_a_changed_setting_that_downloads_again_is_refused_without_a_terminal(
    mine: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAION_ASSETS_IMAGES_IMAGE_SIZE", "384")
    status, output = run()
    assert status == 1
    assert (
        "images.image_size changed from 256 to 384: this run would download 4 partitions of mine/image_shards again "
        "and encode up to 2 partitions of mine/clip_embeddings again. Nothing was changed. To do it, add --yes"
    ) in output
    assert plan()[IMAGE_SHARDS]["changed_settings"] == [{"name": "images.image_size", "old": "256", "new": "384"}]
    assert run(RAW_CSV)[0] == 0


def test_a_changed_setting_of_an_earlier_stage_counts(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAION_ASSETS_DEDUP_MAX_CAPTION_CHARS", "500")
    output = run()[1]
    assert "dedup.max_caption_chars changed from 100000 to 500: this run would download up to 4 partitions" in output
    assert "run 2 of 2: 2 settings changed" in run(DEDUP_PARQUET, "--dry-run")[1]


def test_settings_that_were_not_recorded_are_unknown(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in Path(Store.of(mine).url).glob("settings/image_shards/*.json"):
        path.write_text('{"image_size": 7}')
    monkeypatch.setenv("LAION_ASSETS_IMAGES_IMAGE_SIZE", "384")
    assert "settings of image_shards changed (the old values are not recorded): this run would" in run()[1]


def test_on_a_terminal_the_question_comes_first(mine: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    def start(dataset: Dataset, assets: list[str], *more: object, **named: object) -> None:
        started.append(assets)

    monkeypatch.setattr("laion_assets.orchestration.runs.materialize", start)
    monkeypatch.setattr("laion_assets.cli.plan.is_terminal", lambda: True)
    monkeypatch.setenv("LAION_ASSETS_IMAGES_IMAGE_SIZE", "384")
    status, output = run(IMAGE_SHARDS, input="n\n")
    assert (status, started) == (1, [])
    assert "this run would download 4 partitions of mine/image_shards again. Continue? [y/N]" in output
    assert run(IMAGE_SHARDS, input="y\n")[0] == 0
    assert run(IMAGE_SHARDS, "--yes")[0] == 0
    assert started == [[IMAGE_SHARDS]] * 2


def test_force_asks_and_makes_complete_partitions_again(mine: Dataset) -> None:
    assert (
        "--force is given: this run would download 1 partition of mine/image_shards again"
        in (run(IMAGE_SHARDS, "--partitions", "2", "--force")[1])
    )
    found = plan(IMAGE_SHARDS, "--partitions", "2..3", "--force")[IMAGE_SHARDS]
    assert (found["to_run"], found["why"]) == (2, {"rebuild requested": 2})
    (Path(Store.of(mine).url) / RAW_CSV / "a.csv").write_text("URL|TEXT|similarity_\n")  # of the same size
    assert "1 of 1 partitions run" in run(RAW_CSV, "--force")[1]


def test_the_plan_estimates_rows_and_time_from_committed_partitions(mine: Dataset) -> None:
    store = Store.of(mine)
    for key in ("00002", "00003"):
        store.delete(manifest_path(IMAGE_SHARDS, key))
    found = plan()[IMAGE_SHARDS]
    assert found["why"] == {"missing": 2}
    # 60 rows of a parquet file in two shards; the other two took 2 s together, because they were built at once.
    assert (found["rows"], found["seconds"]) == (60, 2.0)
    assert "run 2 of 4: 2 missing (60 rows, 0.0 MB, about 2 s)" in run("--dry-run")[1]
    store.delete(f"manifests/{CLIP_EMBEDDINGS}")
    assert plan()[CLIP_EMBEDDINGS]["seconds"] is None
    assert "time unknown" in run("--dry-run")[1]


def test_a_changed_layout_is_refused_before_anything_else(mine: Dataset) -> None:
    run(RAW_CSV, "--force")  # records the layout
    path = Path("laion-assets.toml")
    path.write_text(DECLARED.replace("shards = 4", "shards = 3"))
    status, output = run()
    assert status == 1
    assert (
        "The declared layout of mine was built with 2 parquet files, 4 shards, 2 embedding files and has changed"
        in output
    )
    assert "another dataset name" in output
    assert "laion-assets relayout --dataset mine" in output
    done = CliRunner().invoke(cli, ["relayout", "-d", "mine", "--yes"])
    assert "removed 8 partitions" in done.output
    assert plan()[IMAGE_SHARDS]["why"] == {"missing": 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json",), "Add --dry-run"),
        ((IMAGE_SHARDS, "--retry", "failed", "--force"), "Use one of them"),
        (("--remove-old-layout", "--dry-run"), "relayout --dry-run"),
    ],
)
def test_options_that_exclude_each_other(mine: Dataset, arguments: tuple[str, ...], message: str) -> None:
    status, output = run(*arguments)
    assert status == 2
    assert message in output


def test_a_typing_error_in_a_name_is_one_sentence(mine: Dataset) -> None:
    done = CliRunner().invoke(cli, ["materialize", "-d", "mien"])
    assert done.exit_code == 2
    assert "Unknown dataset 'mien'. Did you mean mine? Choose from laion400m, sample, rehearsal, mine" in done.output
    done = CliRunner().invoke(cli, ["materialize", "-d", "mine", "image_shard"])
    assert done.exit_code == 2
    assert "Unknown asset 'image_shard'. Did you mean image_shards? Choose from raw_csv, " in done.output


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, mine: Dataset) -> Callable[..., list[str]]:
    """What a shell offers for the last word of a command line."""

    def offer(*words: str) -> list[str]:
        monkeypatch.setenv("_LAION_ASSETS_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(["laion-assets", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setattr(sys, "argv", ["laion-assets"])
        done = CliRunner().invoke(cli, prog_name="laion-assets", args=[], env={})
        return [line.partition(",")[2] for line in done.output.splitlines()]

    return offer


def test_a_shell_completes_datasets_and_stages(complete: Callable[..., list[str]]) -> None:
    assert complete("materialize", "-d", "mi") == ["mine"]
    assert complete("materialize", "-d", "") == ["laion400m", "sample", "rehearsal", "mine"]
    assert complete("materialize", "image_sh") == [IMAGE_SHARDS]
    assert complete("rel") == ["relayout"]
    declare_a_set()
    assert complete("search", "-d", "mine") == ["mine", "mine_other"]


def declare_a_set() -> None:
    with Path("laion-assets.toml").open("a") as file:
        file.write('[mine.embedding_sets.other]\nmodel = "RN50"\n')


def test_an_embedding_set_is_a_dataset_whose_shared_partitions_are_those_of_its_dataset(mine: Dataset) -> None:
    declare_a_set()
    before = plan()
    change(mine, "b.csv")
    found, of_dataset = plan("-d", "mine_other"), plan()
    assert found.keys() == of_dataset.keys()
    for stage in (RAW_CSV, DEDUP_PARQUET, IMAGE_SHARDS, "dataset_statistics", "image_statistics"):
        assert found[stage] == of_dataset[stage]
    assert before[CLIP_EMBEDDINGS]["why"] == {}
    assert (of_dataset[CLIP_EMBEDDINGS]["to_run"], of_dataset[CLIP_EMBEDDINGS]["may_run"]) == (0, 2)
    assert found[CLIP_EMBEDDINGS]["why"] == {"missing": 2}
    output = CliRunner().invoke(cli, ["status", "-d", "mine_other", "--json"]).output
    assert "embedding_sets/other" in output
    commit(load_dataset("mine_other"), CLIP_EMBEDDINGS, 60)
    assert (Path(mine.root) / "mine/embedding_sets/other/manifests" / CLIP_EMBEDDINGS / "1.json").exists()
    assert plan("-d", "mine_other")[CLIP_EMBEDDINGS]["why"] == {}
    materialized = CliRunner().invoke(cli, ["materialize", "-d", "mine_other", RAW_CSV])
    assert "1 of 1 partitions run" in materialized.output
    assert plan("-d", "mine_other")[CLIP_EMBEDDINGS]["may_run"] == 2
