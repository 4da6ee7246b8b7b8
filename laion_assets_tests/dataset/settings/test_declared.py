"""Datasets that the settings file declares are known to every command, to the API and to the Dagster UI."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import laion_assets
from laion_assets.dataset.built_in import BUILT_IN, SAMPLE
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.proposed_layout import propose_layout
from laion_assets.dataset.settings.resolution import Settings, known_datasets
from laion_assets.definitions import declared
from laion_assets.errors import LaionAssetsError, SettingError
from laion_assets.http.urls.remedies import describe_remedy
from laion_assets.stages.registry import stage_names

LAYOUT = "layout = { parquet_files = 2, shards = 3, embedding_files = 1, rows_per_shard = 50 }"
CATS = f"""
[images]
threads = 5
[dataset.cats]
description = "Cats of a crawl"
source = "/data/cats"
model = "sample-clip"
{LAYOUT}
[dataset.cats.images]
image_size = 128
threads = 6
[dataset.dogs]
published = ["/data/dogs/*.parquet"]
{LAYOUT}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file of this process, with two declared datasets."""
    path = tmp_path / "laion-assets.toml"
    path.write_text(CATS, encoding="utf-8")
    monkeypatch.setenv("LAION_ASSETS_SETTINGS", str(path))
    monkeypatch.setenv("LAION_ASSETS_ROOT", str(tmp_path / "data"))
    return path


def settings_of(toml: str, **environment: str) -> Settings:
    import tomllib

    return Settings(tomllib.loads(toml), "laion-assets.toml", environment)


def test_a_declared_dataset_has_its_layout_and_settings() -> None:
    settings = settings_of(CATS)
    assert list(settings.datasets) == [*BUILT_IN, "cats", "dogs"]
    cats, dogs = (settings.apply(settings.datasets[name]) for name in ("cats", "dogs"))
    assert cats.layout == Layout(parquet_files=2, shards=3, embedding_files=1, rows_per_shard=50)
    assert (cats.description, cats.source, cats.model) == ("Cats of a crawl", "/data/cats", "sample-clip")
    assert (cats.images.image_size, cats.images.threads) == (128, 6)
    assert (dogs.published, dogs.images.threads) == (("/data/dogs/*.parquet",), 5)
    assert settings.apply(SAMPLE).images.image_size == SAMPLE.images.image_size
    origins = {one.name: one.origin for one in settings.explain(settings.datasets["cats"])}
    assert origins["images.image_size"] == "laion-assets.toml [dataset.cats.images.image_size]"


def test_sections_and_variables_override_a_declaration_and_a_subset_inherits_it() -> None:
    section = settings_of(f"{CATS}\n[cats.images]\nthreads = 7\n")
    cats = section.datasets["cats"]
    assert (section.apply(cats).images.threads, section.apply(cats).images.image_size) == (7, 128)
    variable = settings_of(CATS, LAION_ASSETS_CATS_IMAGES_THREADS="8")
    assert variable.apply(variable.datasets["cats"]).images.threads == 8
    subset = cats.subset(range(0, 1))
    assert settings_of(CATS).apply(subset).images.image_size == 128


def test_a_number_of_rows_in_place_of_the_layout_derives_it() -> None:
    layout = settings_of("[dataset.cats]\nrows = 1_000_000\nsource = '/a'").datasets["cats"].layout
    assert layout == propose_layout(1_000_000)
    assert (layout.shards, layout.parquet_files) == (112, 2)


def apply_all(settings: Settings) -> None:
    for dataset in settings.datasets.values():
        settings.apply(dataset)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("dataset = 3", "sets dataset: it must be a table for each dataset, [dataset.NAME]"),
        ("[dataset]\ncats = 3", "[dataset.cats] is 3: it must be a table with rows or layout = {"),
        ("[dataset.cats]\nsource = '/a'", "[dataset.cats]: it has neither rows nor layout, which decide the partit"),
        ("[dataset.cats]\nrows = '5'", "[dataset.cats]: rows is '5': it must be a number of rows, at least 1"),
        ("[dataset.cats]\nrows = 0", "rows is 0: it must be a number of rows"),
        (f"[dataset.cats]\nrows = 5\n{LAYOUT}", "it has both rows and layout. Remove one"),
        ("[dataset.cats]\nrows = 10_000_000_000", "[dataset.cats]: About 10,000,000,000 rows do not fit"),
        ("[dataset.cats]\nlayout = 3", "[dataset.cats]: layout is 3: it must be a table"),
        ("[dataset.cats]\nlayout = { shards = 3 }", "layout has no parquet_files and no embedding_files"),
        (f"[dataset.cats]\n{LAYOUT.replace('shards = 3', 'shard = 3')}", "layout.shard is not one of the counts. Did "),
        (f"[dataset.cats]\n{LAYOUT.replace('= 3', '= true')}", "layout.shards is True: it must be an integer"),
        (f"[dataset.cats]\n{LAYOUT.replace('= 3', '= 1')}", "[dataset.cats]: 2 parquet files and 1 embedding files do"),
        (f"[dataset.cats]\ndescription = 3\n{LAYOUT}", "[dataset.cats] sets description to 3: it must be a text"),
        (f"[dataset.sample]\n{LAYOUT}", "the dataset sample is built in. Change its settings in a section [sample]"),
        (f"[dataset.images]\n{LAYOUT}", "Invalid dataset name 'images': the name is reserved"),
        (f"[dataset.dataset]\n{LAYOUT}", "Invalid dataset name 'dataset': the name is reserved"),
        (f'[dataset."a-b"]\n{LAYOUT}', "Invalid dataset name 'a-b'"),
        (f"[dataset.cats]\n{LAYOUT}\n[dataset.Cats]\n{LAYOUT}", "cats and Cats, which differ only in upper and lower"),
        (
            f"[dataset.cats]\n{LAYOUT}\nsorce = '/a'",
            "sets dataset.cats.sorce, which is not a setting. Did you mean dataset",
        ),
        (
            f"[dataset.cats]\n{LAYOUT}\n[dataset.cats.dedup]\nurl_colum = 'a'",
            "Did you mean dataset.cats.dedup.url_column",
        ),
        (f"[dataset.cats]\n{LAYOUT}\nthreads = 3", "Did you mean dataset.cats.images.threads?"),
        (f"[dataset.cats]\n{LAYOUT}\nimages = 3", "sets dataset.cats.images: it must be a table"),
        (f"[dataset.cats]\n{LAYOUT}\n[dataset.cats.images]\nthreads = 'x'", "images.threads is 'x' (from "),
        (f"[dataset.cats]\n{LAYOUT}\n[catss]\nmodel = 'a'", "has a section [catss]: 'catss' is not a known"),
    ],
)
def test_a_wrong_declaration_is_one_error_that_names_the_table(toml: str, message: str) -> None:
    with pytest.raises(LaionAssetsError) as raised:
        apply_all(settings_of(toml))
    assert message in str(raised.value)
    assert "laion-assets.toml" in str(raised.value)


def test_the_api_and_the_code_location_know_declared_datasets(file: Path) -> None:
    assert laion_assets.load_dataset("cats").images.image_size == 128
    assert set(known_datasets()) == {*BUILT_IN, "cats", "dogs"}
    with pytest.raises(SettingError, match=r"Unknown dataset 'birds'. Choose from .*cats, dogs, declare it"):
        laion_assets.load_dataset("birds")
    found = declared().resolve_asset_graph().get_all_asset_keys()
    keys = {f"{name}/{stage}" for name in ("cats", "dogs") for stage in stage_names(laion_assets.load_dataset(name))}
    assert keys <= {key.to_user_string() for key in found}


def test_commands_know_a_declared_dataset(file: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from laion_assets.cli import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    status = run("status", "--dataset", "cats", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["image_shards"]["missing"] == 3
    unknown = run("status", "--dataset", "birds")
    assert unknown.returncode == 2
    assert "[dataset.birds] with a source and rows, its number of rows" in unknown.stderr
    assert "[laion400m|sample|rehearsal|cats|dogs]" in run("status", "--help").stdout
    file.write_text("[dataset.cats]\nlayout = 3\n", encoding="utf-8")
    wrong = run("status", "--dataset", "sample")
    assert wrong.returncode == 1
    assert "[dataset.cats]: layout is 3" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert "[laion400m|sample|rehearsal]" in run("status", "--help").stdout


def test_a_refused_host_is_allowed_in_the_table_of_its_declaration(file: Path) -> None:
    assert "in [dataset.cats] of laion-assets.toml" in describe_remedy("blocked_address", "cats")
    assert "in [sample] of laion-assets.toml" in describe_remedy("blocked_address", "sample")


def test_without_declarations_the_code_location_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAION_ASSETS_SETTINGS", raising=False)
    assert isinstance(declared(), dg.Definitions)
    assert list(declared().assets or ()) == []
