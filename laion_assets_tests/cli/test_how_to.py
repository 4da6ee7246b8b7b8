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


FURTHER = {"init": ["--no-check-urls"], "materialize": ["--dry-run"]}
"""The commands that are tried, and what keeps them from running for long."""


def steps_of(page: Path) -> list[list[str] | str]:
    """Return the arguments of each of these commands of a page, and the tables that it adds to `mine`, in order.

    Commands that need an object store are left out.
    """
    found = re.finditer(
        r"^    laion-assets ([^\n]*)$|^```toml\n(\[mine\..*?)^```",
        page.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    steps = [match[2] or shlex.split(match[1]) for match in found]
    return [step for step in steps if isinstance(step, str) or (step[0] in FURTHER and "://" not in " ".join(step))]


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


@pytest.mark.parametrize("page", [page for page in PAGES if steps_of(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_work_as_written(page: Path, folder: Path) -> None:
    settings = folder / "laion-assets.toml"
    settings.write_text(ENTRY)
    for step in steps_of(page):
        if isinstance(step, str):
            settings.write_text(settings.read_text() + step)
            continue
        if step[0] == "init":
            settings.unlink(missing_ok=True)
        done = CliRunner().invoke(cli, [*step, *FURTHER[step[0]]])
        assert done.exit_code == 0, f"{step}: {done.output} {done.exception}"
        assert {"init": "wrote:", "materialize": "run 1 of 1"}[step[0]] in done.output


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
