"""`laion-assets demo`: from crawl CSVs to a searchable dataset, offline, in Dagster runs. A rerun builds nothing."""

import json
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.stages.status import DatasetStatus
from laion_assets_tests.end_to_end.conftest import BIN, Demo, environment

COMPLETE = {
    "raw_csv": 1,
    "dedup_parquet": 4,
    "dataset_statistics": 1,
    "image_shards": 24,
    "image_statistics": 1,
    "clip_embeddings": 6,
    "knn_indices": 1,
    "search_report": 1,
}


def status(demo: Demo) -> dict[str, dict[str, int]]:
    return json.loads(demo.run("status", "--dataset", "sample", "--json").stdout)


def materializations(demo: Demo) -> Counter[str]:
    with dg.DagsterInstance.from_config(str(demo.home / "dagster_home")) as instance:
        return Counter(
            asset
            for asset in COMPLETE
            for record in instance.fetch_materializations(dg.AssetKey(["sample", asset]), limit=1000).records
            if record.partition_key or COMPLETE[asset] == 1  # not the totals over all partitions
        )


def test_everything_is_complete(demo: Demo) -> None:
    found = status(demo)
    assert {asset: counts["complete"] for asset, counts in found.items()} == COMPLETE
    assert all(counts["complete"] == counts["total"] for counts in found.values())


def test_every_stage_prints_rows_in_rows_out_and_dropped_rows(demo: Demo) -> None:
    for asset in COMPLETE:
        assert asset in demo.first.stdout
    for reason in ("duplicate", "http_404", "blocked_address", "opted_out"):
        assert reason in demo.first.stdout


def test_runs_are_in_dagster_with_one_materialization_per_partition(demo: Demo) -> None:
    assert materializations(demo) == Counter(COMPLETE)
    with dg.DagsterInstance.from_config(str(demo.home / "dagster_home")) as instance:
        runs = instance.get_runs()
        assert len(runs) == len(COMPLETE)
        assert all(run.status == dg.DagsterRunStatus.SUCCESS for run in runs)
        origins = {run.remote_job_origin.location_name for run in runs if run.remote_job_origin}
        assert origins == {"sample"}, "the landing page of the Dagster UI shows only runs of a code location"
        assert len([run for run in runs if run.remote_job_origin]) == len(runs)
        checks = [
            record.event_log_entry.dagster_event.asset_check_evaluation_data
            for run in runs
            for record in instance.get_records_for_run(
                run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            ).records
        ]
    assert len(checks) == 2 * len(COMPLETE), "conservation and up_to_date of each asset"
    assert all(check.passed for check in checks)


def test_a_second_demo_does_no_work_and_ends_the_same(demo: Demo) -> None:
    def files() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size)
            for path in sorted((demo.root / "sample").rglob("*"))
            if path.is_file() and path.name != "demo.png"
        }

    before, output = files(), status(demo)
    again = demo.run("demo")
    assert "0 partitions run" in again.stdout
    assert files() == before
    assert status(demo) == output
    assert materializations(demo) == Counter(COMPLETE)


def test_the_rows_are_conserved_from_csv_to_index(demo: Demo) -> None:
    def counts(asset: str) -> tuple[int, int]:
        found = [
            json.loads(path.read_text())["counts"]
            for path in (demo.root / "sample" / "manifests" / asset).glob("*.json")
        ]
        return sum(one["rows_in"] for one in found), sum(one["rows_out"] for one in found)

    for before, after in (
        ("dedup_parquet", "image_shards"),
        ("image_shards", "clip_embeddings"),
        ("clip_embeddings", "knn_indices"),
    ):
        assert counts(before)[1] == counts(after)[0], f"{before} gave other rows than {after} took"


def test_a_row_can_be_followed_by_its_uid_through_every_stage(demo: Demo) -> None:
    root = demo.root / "sample"
    dedup = {uid for path in (root / "dedup_parquet").glob("*.parquet") for uid in column(path, "uid")}
    shards = [uid for path in sorted((root / "image_shards").glob("*.parquet")) for uid in column(path, "uid")]
    embedded = [uid for path in sorted((root / "clip_embeddings/metadata").glob("*")) for uid in column(path, "uid")]
    assert len(shards) == len(dedup)
    assert set(shards) == dedup
    assert len(embedded) == len(set(embedded))
    assert set(embedded) < dedup
    assert embedded == sorted(embedded), "neighbours are in the order of the hash space"


def column(path: Path, name: str) -> list[str]:
    return pq.read_table(path, columns=[name]).column(name).to_pylist()


def test_vectors_are_float16_of_norm_1(demo: Demo) -> None:
    for kind in ("img_emb", "text_emb"):
        for path in (demo.root / "sample" / "clip_embeddings" / kind).glob("*.npy"):
            vectors = np.load(path)
            assert vectors.dtype == np.float16
            assert np.allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=2e-3)


@pytest.mark.parametrize(
    ("query", "wanted", "within"),
    [
        ("a red circle", ("red circle",), 1),
        ("a small red circle left of a large blue square", ("red circle", "blue square"), 1),
        ("a green star above a yellow triangle", ("green star", "yellow triangle"), 10),
    ],
)
def test_a_search_finds_the_queried_image(demo: Demo, query: str, wanted: tuple[str, ...], within: int) -> None:
    """Hundreds of images show the first two; four of 4,993 show the last pair."""
    results = json.loads(demo.run("search", "--dataset", "sample", query, "--k", "10", "--json").stdout)
    assert len(results) == 10
    assert {"uid", "key", "caption", "url", "similarity"} <= set(results[0])
    similarities = [result["similarity"] for result in results]
    assert similarities == sorted(similarities, reverse=True)
    right = [all(word in result["caption"] for word in wanted) for result in results[:within]]
    assert any(right), [result["caption"] for result in results]


def test_the_answer_is_a_contact_sheet(demo: Demo) -> None:
    sheet = demo.root / "sample" / "search" / "demo.png"
    assert sheet.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert str(sheet) in demo.first.stdout


def test_nothing_is_left_in_staging(demo: Demo) -> None:
    left = [path for path in (demo.root / "sample" / "staging").rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == []


def test_ctrl_c_keeps_finished_shards_and_leaves_no_process(demo: Demo, tmp_path: Path) -> None:
    for name in ("raw_csv", "dedup_parquet", "dedup_rejects", "manifests/raw_csv", "manifests/dedup_parquet"):
        shutil.copytree(demo.root / "sample" / name, tmp_path / "data" / "sample" / name)
    process = subprocess.Popen(
        [BIN / "laion-assets", "demo"],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    assert any("images/s" in line for line in process.stderr)
    children = psutil.Process(process.pid).children(recursive=True)
    assert any("sample.site" in " ".join(child.cmdline()) for child in children)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=15)[1]
    assert process.returncode == 130, output
    assert "Every committed partition is kept" in output
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    dataset = replace(SAMPLE, root=str(tmp_path / "data"))
    states = [state.state for state in DatasetStatus(dataset).states("image_shards")]
    assert 0 < states.count("complete") < 24
    assert set(states) == {"complete", "missing"}
