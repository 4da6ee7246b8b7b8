"""The commands of the how-to pages work as written: `init` on small files, `materialize` as a dry run."""

import gzip
import json
import re
import shlex
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from laion_assets.cli import cli
from laion_assets_tests.conftest import TOP
from laion_assets_tests.end_to_end.conftest import environment
from laion_assets_tests.inspection.forms import write_comma_csv, write_parquet

PAGES = sorted((TOP / "docs" / "how-to").glob("*.md"))
URLS = [f"http://photos.test/{number}.jpg" for number in range(20)]
ROWS = [(url, f"caption {number}") for number, url in enumerate(URLS)]
ENTRY = '[dataset.mine]\nsource = "pairs"\nrows = 20\nmodel = "sample-clip"\n'


EXPECTED = {"init": "wrote:", "materialize": "run 1 of 1", "status": "image_shards"}
"""The commands that are run, and a part of their output."""
FURTHER = {"init": ["--no-check-urls"], "materialize": ["--dry-run"], "status": []}


def commands_of(page: Path) -> list[list[str]]:
    """Return the arguments of each `laion-assets` command of a page, without those that need an object store."""
    lines = re.findall(r"^    laion-assets (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    commands = [shlex.split(line) for line in lines if "://" not in line]
    return [command for command in commands if command[0] in EXPECTED]


def settings_of(page: Path) -> str:
    """Return the settings that a page adds to a declared dataset."""
    blocks = re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return "\n".join(block for block in blocks if "[dataset.mine]" not in block)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    write_comma_csv(tmp_path / "pairs", ROWS)
    write_parquet(tmp_path / "my_folder", ROWS)
    (tmp_path / "pairs.csv").write_bytes((tmp_path / "pairs" / "pairs.csv").read_bytes())
    (tmp_path / "urls.txt").write_text("\n".join(URLS))
    (tmp_path / "crawl").mkdir()
    objects = [json.dumps({"url": url, "caption": caption, "lang": "en"}) for url, caption in ROWS]
    (tmp_path / "crawl" / "part-0.jsonl.gz").write_bytes(gzip.compress("\n".join(objects).encode()))
    table = pa.table({"url": URLS, "caption": [caption for _, caption in ROWS], "lang": ["en"] * len(ROWS)})
    pq.write_table(table, tmp_path / "list.parquet")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_as_written(page: Path, folder: Path) -> None:
    settings = folder / "laion-assets.toml"
    settings.write_text(ENTRY + settings_of(page))
    for command in commands_of(page):
        if command[0] == "init":
            settings.unlink(missing_ok=True)
        done = CliRunner().invoke(cli, [*command, *FURTHER[command[0]]])
        assert done.exit_code == 0, f"{command}: {done.output} {done.exception}"
        assert EXPECTED[command[0]] in done.output
        if command[0] == "init":
            with settings.open("a") as file:
                file.write(settings_of(page))


def test_the_python_example_is_a_code_location_with_both_assets(folder: Path) -> None:
    text = (TOP / "docs" / "how-to" / "my-dagster-project.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (folder / "project.py").write_text(example, encoding="utf-8")
    names: dict[str, object] = {"__name__": "project"}
    exec(compile(example, "project.py", "exec"), names)
    defs = names["defs"]
    assert isinstance(defs, dg.Definitions)
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey("published_index")
    assert graph.get(key).parent_keys == {dg.AssetKey(["cats", "knn_indices"])}
    assert dg.AssetKey(["cats", "image_shards"]) in graph.get_all_asset_keys()
