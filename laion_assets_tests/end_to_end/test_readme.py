"""The README's examples run without changes."""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from laion_assets.sample.running import running_site
from laion_assets_tests.end_to_end.conftest import TOP, Demo, environment

README = (TOP / "README.md").read_text()


def example(beginning: str) -> str:
    """Return the python block of the README with this beginning."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return next(block for block in blocks if block.startswith(beginning))


def test_results_can_be_read_with_webdataset_numpy_and_faiss(demo: Demo) -> None:
    done = subprocess.run(
        [sys.executable, "-c", example("import faiss")], cwd=demo.home, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.strip().splitlines()
    assert re.match(r"00000\d{4} [0-9a-f]{32} .+\(256, 256\)$", first)
    assert re.match(r"\[\s*0 ", last), "the nearest neighbour of a vector must be the vector itself"


def test_a_folder_of_parquet_files_becomes_a_dataset(demo: Demo, tmp_path: Path) -> None:
    rows = pq.read_table(demo.root / "sample" / "image_shards" / "00002.parquet").to_pylist()
    good = [row for row in rows if row["status"] == "success"][:40]
    (tmp_path / "pairs").mkdir()
    pq.write_table(
        pa.table({"url": [row["url"] for row in good], "caption": [row["caption"] for row in good]}),
        tmp_path / "pairs" / "mine.parquet",
    )
    (tmp_path / "mine.py").write_text(example("from laion_assets import"))
    with running_site() as site:
        pairs = ",".join(f'"{host}": "{address}"' for host, address in site.resolve.items())
        done = subprocess.run(
            [sys.executable, "mine.py"],
            cwd=tmp_path,
            env={**environment(tmp_path), "LAION_ASSETS_RESOLVE": "{" + pairs + "}", "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    index = tmp_path / "data" / "mine" / "knn_indices" / "image.index"
    assert index.exists()
    metadata = pq.read_table(tmp_path / "data" / "mine" / "clip_embeddings" / "metadata" / "metadata_0.parquet")
    assert sorted(metadata.column("url").to_pylist()) == sorted(row["url"] for row in good)


def test_documented_commands_serve_the_indices_with_clip_retrieval(demo: Demo) -> None:
    """Runs both commands with another port and with this interpreter."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    block = next(block for block in blocks if "clip_retrieval_back" in block)
    start, ask = (line.removeprefix("$ ") for line in re.split(r"\n(?=\$ )", block.strip()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, *shlex.split(start)[1:], "--port", port]
    address, body = re.match(r"curl (\S+) --data '(.*)'$", ask, re.DOTALL).groups()  # type: ignore[union-attr]
    request = urllib.request.Request(address.replace(":1234/", f":{port}/"), data=body.encode())
    with (demo.home / "back.log").open("wb") as log:
        back = subprocess.Popen(command, cwd=demo.home, env=demo.environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 180
        while True:
            assert back.poll() is None, (demo.home / "back.log").read_text()[-3_000:]
            assert time.monotonic() < deadline
            with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
                break
            time.sleep(0.3)
    finally:
        back.terminate()
        back.wait(20)
    assert len(found) == 3
    assert all("red circle" in each["caption"] for each in found)


def test_documented_make_targets_exist() -> None:
    makefile = (TOP / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert shutil.which("make")
