"""Exports of the demo: 1,000 rows read back by the webdataset library; kills at random moments."""

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import webdataset

from laion_assets_tests.end_to_end.conftest import BIN, Demo


def _stored_samples(demo: Demo) -> dict[str, dict[str, bytes]]:
    """All samples of the dataset by uid, read by the webdataset library."""
    return _read(sorted((demo.root / "sample" / "image_shards").glob("*.tar")))


def _read(tars: list[Path]) -> dict[str, dict[str, bytes]]:
    samples = {}
    for sample in webdataset.WebDataset([str(tar) for tar in tars], shardshuffle=False, empty_check=False):
        members = {name: content for name, content in sample.items() if name in ("__key__", "jpg", "json", "txt")}
        samples[json.loads(sample["json"])["uid"]] = members
    return samples


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_thousand_rows_are_read_back_by_webdataset_with_the_same_uids_and_bytes(demo: Demo) -> None:
    stored = _stored_samples(demo)
    safe = sorted(uid for uid, sample in stored.items() if json.loads(sample["json"])["NSFW"] in ("UNLIKELY", None))
    chosen = random.Random(16).sample(safe, 1_000)
    (demo.home / "uids.txt").write_text("\n".join(chosen))
    arguments = ("--uids", "uids.txt", "--rows-per-shard", "300", "--output", "thousand")
    printed = demo.run("export", "--dataset", "sample", *arguments).stdout
    assert "rows written:    1,000" in printed
    exported = _read(sorted((demo.home / "thousand" / "shards").glob("*.tar")))
    assert exported == {uid: stored[uid] for uid in chosen}
    tables = [pq.read_table(path) for path in sorted((demo.home / "thousand" / "shards").glob("*.parquet"))]
    assert [table.num_rows for table in tables] == [300, 300, 300, 100]
    assert [uid for table in tables for uid in table["uid"].to_pylist()] == list(exported)


def test_exports_killed_at_random_moments_end_with_the_bytes_of_an_undisturbed_one(demo: Demo) -> None:
    arguments = ["export", "-d", "sample", "--where", "original_width > 100", "--rows-per-shard", "100", "--output"]
    demo.run(*arguments, "undisturbed")
    expected = _files(demo.home / "undisturbed")
    chance, kills = random.Random(3), 0
    for _ in range(3):
        running = subprocess.Popen(
            [BIN / "laion-assets", *arguments, "killed"], cwd=demo.home, env=demo.environment, stderr=subprocess.DEVNULL
        )
        while running.poll() is None and not (demo.home / "killed").exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.3))
        if running.poll() is not None:
            break
        running.send_signal(signal.SIGKILL)
        running.wait()
        kills += 1
        left = {name: content for name, content in _files(demo.home / "killed").items() if name.startswith("shards/")}
        assert all(expected[name] == content for name, content in left.items()), "a part of a file, or another one"
    demo.run(*arguments, "killed")
    assert kills >= 1
    assert _files(demo.home / "killed") == expected


def test_only_the_command_line_exports_hidden_rows_and_says_how_many_are_left_out(demo: Demo) -> None:
    safe = json.loads(demo.run("export", "--dataset", "sample", "--dry-run", "--json").stdout)
    everything = json.loads(demo.run("export", "-d", "sample", "--dry-run", "--json", "--include-hidden").stdout)
    assert safe["counts"]["reasons"]["hidden"] > 0
    assert everything["counts"]["to_write"] > safe["counts"]["to_write"]
    assert "hidden" not in everything["counts"]["reasons"]
    refused = demo.run("export", "-d", "sample", "--where", "1 = (SELECT 1)", "--output", "none", check=False)
    assert refused.returncode == 1
    assert "it has a subquery" in refused.stderr
    assert "Columns: uid, " in refused.stderr
    assert not (demo.home / "none").exists()
