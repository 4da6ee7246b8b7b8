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
WORKS = {"dedup_parquet": "reading 32 files", "clip_embeddings": "samples/s"}
"""What a stage prints once it works."""


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("asset", MADE)
def test_ctrl_c_ends_with_status_130_and_without_tracebacks(demo: Demo, tmp_path: Path, asset: str, times: int) -> None:
    for name in MADE[asset]:
        for folder in (name, f"manifests/{name}"):
            shutil.copytree(demo.root / "sample" / folder, tmp_path / "data" / "sample" / folder)
    process = subprocess.Popen(
        [BIN / "laion-assets", "materialize", asset],
        cwd=tmp_path,
        env=environment(tmp_path),
        stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any(WORKS[asset] in line for line in process.stdout)
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
