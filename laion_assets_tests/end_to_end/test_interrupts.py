"""Ctrl-C in a terminal, which reaches the whole process group: status 130 and one sentence, in every phase."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from laion_assets_tests.end_to_end.conftest import BIN, Demo, environment

MADE = {
    "dedup_parquet": ("raw_csv",),
    "clip_embeddings": ("raw_csv", "dedup_parquet", "image_shards"),
}
"""The stage that is interrupted, and what is made before."""
WORKS = {"dedup_parquet": "reading ", "clip_embeddings": "samples/s"}
"""What a stage prints once it works."""


def start(asset: str, folder: Path, given: dict[str, str]) -> "subprocess.Popen[str]":
    """Materialize an asset in a process group of its own, and return once it works."""
    process = subprocess.Popen(
        [BIN / "laion-assets", "materialize", asset],
        cwd=folder,
        env=given,
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any(WORKS[asset] in line for line in process.stdout)
    return process


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("asset", MADE)
def test_ctrl_c_ends_with_status_130_and_without_tracebacks(demo: Demo, tmp_path: Path, asset: str, times: int) -> None:
    for name in MADE[asset]:
        for folder in (name, f"manifests/{name}"):
            shutil.copytree(demo.root / "sample" / folder, tmp_path / "data" / "sample" / folder)
    process = start(asset, tmp_path, environment(tmp_path))
    children = psutil.Process(process.pid).children(recursive=True)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    rest = process.communicate(timeout=30)[0]
    assert process.returncode == 130, rest
    assert "interrupted. Every committed partition is kept" in rest
    assert "Traceback" not in rest
    assert "Error" not in rest
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def test_ctrl_c_does_not_wait_for_the_running_spark_job(tmp_path: Path) -> None:
    """The whole job takes minutes, because its one task reads all rows."""
    source = tmp_path / "crawl"
    source.mkdir()
    rows = "".join(f"http://a.example/{number}.jpg|one {number}|0.3\n" for number in range(2_000_000))
    (source / "a.csv").write_text(f"URL|TEXT|similarity\n{rows}")
    given = {**environment(tmp_path), "LAION_ASSETS_SAMPLE_SOURCE": str(source)}
    made = subprocess.run([BIN / "laion-assets", "materialize", "raw_csv"], cwd=tmp_path, env=given)
    assert made.returncode == 0
    process = start("dedup_parquet", tmp_path, given)
    time.sleep(5)  # the job runs, and PySpark waits for it
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=15)[0]
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
