"""Datasets of Python modules: by entry point or by the settings file, known to every command, in one code location."""

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import dagster as dg
import pytest

from laion_assets.api.datasets import load_dataset
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.settings import registered
from laion_assets.dataset.settings.resolution import known_datasets
from laion_assets.definitions import declared
from laion_assets.errors import SettingError
from laion_assets.stages.registry import stage_names

MODULE = """
from laion_assets import Dataset, Layout

LAYOUT = Layout(parquet_files=1, shards=2, embedding_files=1, rows_per_shard=50)
cats = Dataset(name="cats", description="Cats", layout=LAYOUT, source="/csv", model="sample-clip")
both = [cats, Dataset(name="dogs", description="Dogs", layout=LAYOUT, source="/csv", model="sample-clip")]
wrong = [cats, "dogs"]
twins = [cats, Dataset(name="Cats", description="", layout=LAYOUT)]


def build():
    return iter(both)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a module of datasets."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_datasets.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("my_datasets", None)


def name_in_file(folder: Path, line: str, rest: str = "") -> None:
    (folder / "laion-assets.toml").write_text(f"datasets = {line}\n{rest}")


@pytest.mark.parametrize("line", ['"my_datasets:both"', '["my_datasets:both"]', '["cots", "my_datasets:build"]'])
def test_the_settings_file_names_datasets_of_a_module(folder: Path, line: str) -> None:
    name_in_file(folder, line, "[cats]\nroot = '/elsewhere'\n[dogs.images]\nimage_size = 64\n")
    path = list(sys.path)
    assert list(known_datasets()) == ["laion400m", "sample", "rehearsal", "cats", "dogs"]
    assert (load_dataset("cats").root, load_dataset("dogs").images.image_size) == ("/elsewhere", 64)
    assert sys.path == path


def test_a_package_registers_a_dataset_by_an_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    entry = EntryPoint("cats", "my_datasets:cats", registered.GROUP)
    monkeypatch.setattr(registered, "_entry_points", lambda: (entry,))
    assert load_dataset("cats").description == "Cats"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"my_datasets:none"', "'my_datasets:none': AttributeError: .* Expected module:name of a Dataset"),
        ('"no_module:none"', "'no_module:none': ModuleNotFoundError: No module named 'no_module'"),
        ('"my_datasets:wrong"', "it has 'dogs', which is not a laion_assets.Dataset"),
        ('"my_datasets:LAYOUT"', "TypeError: 'Layout' object is not iterable"),
        ('"my_datasets:twins"', "the dataset name Cats is taken by laion-assets.toml sets datasets"),
        ('"cats"', "it must be a list of names, or module:name"),
    ],
)
def test_a_wrong_reference_is_named(folder: Path, line: str, message: str) -> None:
    name_in_file(folder, line)
    with pytest.raises(SettingError, match=message):
        load_dataset("sample")


def test_a_name_of_the_settings_file_or_of_this_package_is_not_registered_again(folder: Path) -> None:
    layout = "layout = { parquet_files = 1, shards = 2, embedding_files = 1, rows_per_shard = 50 }"
    name_in_file(folder, '"my_datasets:cats"', f"[dataset.cats]\n{layout}\n")
    with pytest.raises(SettingError, match=r"dataset name cats is taken by laion-assets\.toml \[dataset\.cats\]"):
        known_datasets()


def test_two_datasets_in_one_code_location(folder: Path) -> None:
    name_in_file(folder, '"my_datasets:both"')
    location = declared()
    keys = {key.to_user_string() for key in location.resolve_all_asset_keys()}
    assert keys == {f"{name}/{stage}" for name in ("cats", "dogs") for stage in stage_names(load_dataset(name))}
    for name in ("cats", "dogs"):
        for stage in stage_names(load_dataset(name)):
            asset = location.resolve_assets_def(dg.AssetKey([name, stage]))
            assert all(key.startswith(f"{name}_") for key in asset.required_resource_keys)
            assert asset.required_resource_keys <= set(location.resources or {})
    assert location.resolve_implicit_global_asset_job_def()


def test_no_dataset_is_registered_by_default() -> None:
    assert "sample" in known_datasets()
    assert known_datasets()["sample"] == SAMPLE
