"""After kills at random moments, a rerun produces the same bytes. `make test-kills` runs hundreds of kills."""

from pathlib import Path

from laion_assets_tests.kills import embeddings
from laion_assets_tests.kills.harness import kill_often

SEED = 20


def test_killed_runs_produce_the_same_bytes_as_an_undisturbed_run(tmp_path: Path) -> None:
    report = kill_often(3, SEED, tmp_path)
    assert report.kills.total() >= 3
    assert report.rounds.total() >= 1


def test_killed_runs_produce_the_same_embedding_files_as_an_undisturbed_run(tmp_path: Path) -> None:
    report = embeddings.kill_often(3, SEED, tmp_path, kinds=("built",))
    assert report.kills.total() == 3
    assert report.rounds.total() >= 1
    assert report.rows >= sum(embeddings.ROWS)
