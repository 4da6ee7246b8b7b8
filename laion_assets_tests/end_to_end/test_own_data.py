"""From an empty folder with rows on a local web server to a search result, for each form of files that users have."""

import contextlib
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.settings.resolution import Settings
from laion_assets.inspection.entry import append_entry, format_entry
from laion_assets.inspection.inspection import inspect_place
from laion_assets.inspection.table_sample import Choices
from laion_assets.sample.originals import jpeg
from laion_assets.sample.scenes import Scene, draw_scene, render
from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
from laion_assets.stages.published_parquet.build import observe_published
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.store.store import Store
from laion_assets_tests.end_to_end.conftest import BIN, TOP, environment
from laion_assets_tests.inspection.forms import FORMS, Rows
from laion_assets_tests.stages.dedup_parquet.tables import quiet
from laion_assets_tests.stages.image_shards.site import Site, Talk, answer, running
from laion_assets_tests.tiny_dataset import tiny_dataset

PAGE = TOP / "docs" / "your-own-data.md"
DOCUMENTED_PORT = "8000"
MAX_SECONDS = 300
FOUND = 59
"""The number of a scene that is searched for."""
_GENERATOR = np.random.default_rng(7)
SCENES = [draw_scene(_GENERATOR) for _ in range(500)]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A web server on loopback with images of 500 of the sample's scenes."""
    with served_scenes() as running_site:
        yield running_site


@contextlib.contextmanager
def served_scenes() -> Iterator[Site]:
    with running({f"/{number}.jpg": _image(scene) for number, scene in enumerate(SCENES)}) as site:
        yield site


def _image(scene: Scene) -> Talk:
    return lambda sock: answer(jpeg(render(scene, 256, 192)))(sock)


def rows_of(site: Site, count: int) -> Rows:
    return [(f"http://127.0.0.1:{site.port}/{n}.jpg", scene.caption) for n, scene in enumerate(SCENES[:count])]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_declared_and_deduplicated(form: str, site: Site, spark: Any, tmp_path: Path) -> None:
    rows = [*rows_of(site, 40), *rows_of(site, 3), ("", "a row without a URL"), ("not a url", "x")]
    FORMS[form](tmp_path / "pairs", rows)
    file = tmp_path / "laion-assets.toml"
    base = replace(tiny_dataset(tmp_path, {}), name="mine", source="")
    found = inspect_place(base, str(tmp_path / "pairs"), Choices(), lambda question, names: None)
    append_entry(file, format_entry(found.dataset, base, {}), "mine")
    settings = Settings.load({"LAION_ASSETS_SETTINGS": str(file), "LAION_ASSETS_ROOT": str(tmp_path / "data")})
    dataset = settings.apply(settings.datasets["mine"])
    assert (found.row_count.rows, found.row_count.error) == (45, 0.0)
    store = Store.of(dataset)
    if dataset.published:
        observe_published(dataset, store, quiet)
    else:
        fetch_raw_csv(dataset, store, quiet)
    (manifest,) = build_dedup_parquet(spark, dataset, store, [0], quiet)
    assert (manifest.counts.rows_in, manifest.counts.rows_out) == (45, 40)
    assert dict(manifest.counts.reasons) == {"duplicate": 3, "url_missing": 1, "url_without_scheme": 1}
    table = pq.read_table(tmp_path / "data" / "mine" / "dedup_parquet" / "00.parquet")
    stored = zip(table.column("URL").to_pylist(), table.column("TEXT").to_pylist(), strict=True)
    assert sorted(stored) == sorted(rows_of(site, 40))


def run(folder: Path, *arguments: str) -> str:
    """Run `laion-assets` and return its output."""
    done = subprocess.run(
        [BIN / "laion-assets", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment(folder), "PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read_transcript() -> list[tuple[list[str], list[str]]]:
    """Return the commands of the page's transcript, each with the lines of its output that are shown."""
    blocks = re.findall(
        r"^```\n(\$ laion-assets init.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    parts = [part.splitlines() for part in re.split(r"^\$ ", blocks[0], flags=re.MULTILINE) if part]
    return [(shlex.split(command), lines) for command, *lines in parts]


def normalise(line: str) -> str:
    """Return a line without what differs between runs: times, rates, keys and the last digits of similarities."""
    line = re.sub(r"\b[\d.,]+ (s|ms|images/s|samples/s|files/s|MB/s)\b", r"N \1", line)
    line = re.sub(r"\b(0\.\d)\d{3}  \d{9}\b", r"\1NNN  KEY", line)
    return re.sub(r"^\d\d:\d\d:\d\d", "HH:MM:SS", line).rstrip()


@pytest.mark.slow
def test_the_transcript_of_the_page_is_what_the_commands_print(site: Site, tmp_path: Path) -> None:
    FORMS["comma_csv"](tmp_path / "pairs", rows_of(site, 120))
    transcript = read_transcript()
    assert [command[1] for command, _ in transcript] == ["init", "materialize", "search"]
    for command, expected in transcript:
        here = [word.replace(f":{DOCUMENTED_PORT}", f":{site.port}") for word in command[1:]]
        printed = run(tmp_path, *here).replace(f":{site.port}", f":{DOCUMENTED_PORT}").splitlines()
        lines = iter([normalise(line) for line in printed])
        for line in map(normalise, expected):
            assert line in lines, f"{line!r} is not in the output of {command}, or not in this order:\n" + "\n".join(
                printed
            )


@pytest.mark.scale
@pytest.mark.parametrize("form", FORMS)
def test_five_hundred_rows_become_a_search_result_within_five_minutes(form: str, site: Site, tmp_path: Path) -> None:
    rows = rows_of(site, 500)
    FORMS[form](tmp_path / "pairs", rows)
    started = time.monotonic()
    run(
        tmp_path, "init", "mine", "--from", "pairs", "--model", "sample-clip",
        "--resolve", f"127.0.0.1=127.0.0.1:{site.port}",
    )  # fmt: skip
    run(tmp_path, "materialize", "--dataset", "mine")
    found = run(tmp_path, "search", "--dataset", "mine", SCENES[FOUND].caption, "--k", "5")
    seconds = time.monotonic() - started
    print(f"{form}: {seconds:.0f} s")
    assert seconds < MAX_SECONDS
    assert SCENES[FOUND].caption in found.splitlines()[0]
    table = pq.read_table(tmp_path / "data" / "mine" / "image_shards" / "00000.parquet")
    assert sorted(table.column("url").to_pylist()) == sorted(dict(rows))
    assert set(table.column("status").to_pylist()) == {"success"}
