"""`make bench-search` on the demo's index: it runs to the end, without failed requests and with equal rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laion_assets_tests.end_to_end.conftest import Demo, demo

__all__ = ["demo"]

BENCH = Path(__file__).parents[2] / "bench" / "search.py"


@pytest.mark.bench
def test_a_short_bench_ends_in_a_line_of_json(demo: Demo, tmp_path: Path) -> None:
    options = ["--rounds", "1", "--seconds", "1", "--load-seconds", "2", "--clients", "4"]
    ended = subprocess.run(
        [sys.executable, str(BENCH), *options],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "LAION_ASSETS_ROOT": str(demo.root), "PYTHONPATH": str(BENCH.parents[1])},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["bench"] == "search"
    assert min(result["ours"], result["peer"], result["text"]["ours"], result["load"]["rate"]) > 0
    assert result["load"]["failed"] == 0
    assert not list(tmp_path.iterdir())
