"""The graph benchmark runs on the sample and prints all its figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "graph.py"


@pytest.mark.bench
@pytest.mark.timeout(1_800)
def test_the_benchmark_ends_with_figures_of_both_storages(tmp_path: Path) -> None:
    """Real PostgreSQL, which `make test-bench` installs; the sample's faults cost its shards their time."""
    command = [sys.executable, str(BENCH), "--dataset", "sample", "--peer", "2", "--folder", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1_700)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["bench"] == "graph"
    figures = ("load_s", "partitions_page_s", "sqlite_ms_per_partition", "postgres_ms_per_partition", "ours", "peer")
    for name in figures:
        assert result[name] > 0, name
    assert result["ratio"] == pytest.approx(result["peer"] / result["ours"], rel=0.1)
    for storage in ("sqlite", "postgres"):
        stages = result["storages"][storage]["stages"]
        assert list(stages) == ["raw_csv", "dedup_parquet", "image_shards", "clip_embeddings", "knn_indices"]
    assert not tmp_path.exists(), "something is left behind"
