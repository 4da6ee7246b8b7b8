"""The raw_csv benchmark runs with small inputs, and its figures are correct."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "raw_csv.py"


@pytest.mark.bench
def test_the_benchmark_ends_with_figures_and_nothing_fetched_twice(tmp_path: Path) -> None:
    """Real nginx and aria2c, which `make bench-csv` installs. If they are missing, the benchmark must report it."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    command = [sys.executable, str(BENCH), "--small", "--folder", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(BENCH.parents[1])}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    if not shutil.which("aria2c") or not shutil.which("nginx", path=path):
        assert ended.returncode == 1
        assert "is missing: run `make bench-csv` as root, or sudo apt-get install" in ended.stderr
        return
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["bench"] == "csv"
    assert result["ratio"] > 0
    assert result["files"] == 301
    assert result["complete_at_kill"] > 0
    assert result["refetched_files"] == 0
    assert result["resumed_by_range"] >= 1, "the large file, which was in the middle"
    # A small file that was cut between two pieces starts again: at most those of the 100 downloads of that moment.
    assert result["bytes_fetched_twice"] < 100 * 40_000
    assert list(tmp_path.iterdir()) == [], "something is left behind"
