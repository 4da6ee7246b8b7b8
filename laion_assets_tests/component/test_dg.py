"""The component in a project created with `create-dagster`, by the commands of `dg`; and `dg` in our repository."""

import json
from pathlib import Path

import pytest

from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.stages.registry import stage_names
from laion_assets_tests.component.dg_project import TOP, Project, environment, new_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two scaffolded datasets: `cats`, and `dogs` in the same kind of folder."""
    made = new_project(tmp_path_factory.mktemp("dg"))
    for name in ("cats", "dogs"):
        done = made.dg("scaffold", "defs", "laion_assets.DatasetComponent", name)
        assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_dg_lists_the_component(project: Project) -> None:
    listed = project.dg("list", "components", "--json")
    assert "laion_assets.DatasetComponent" in listed.stdout, listed.stdout + listed.stderr


def test_scaffolded_datasets_are_checked_and_listed(project: Project) -> None:
    checked = project.dg("check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "All component YAML validated" in checked.stdout + checked.stderr
    listed = json.loads(project.dg("list", "defs", "--json").stdout)
    keys = {asset["asset_key"] for asset in listed["assets"]}
    assert keys == {f"{name}/{stage}" for name in ("cats", "dogs") for stage in stage_names(BUILT_IN["sample"])}


def test_a_scaffolded_dataset_runs_offline(project: Project) -> None:
    done = project.dg("launch", "--assets", "key:cats/raw_csv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((project.folder / "data" / "cats" / "raw_csv").rglob("*.csv"))


def test_a_wrong_attribute_is_named_with_its_line(project: Project) -> None:
    path = project.defs / "dogs" / "defs.yaml"
    text = path.read_text("utf-8")
    path.write_text(f"{text}  images:\n    image_sise: 384\n", "utf-8")
    line = len(path.read_text("utf-8").splitlines())
    try:
        # Without a folder, dg 1.13.27 checks only one file per component type, the last in the order of the folder.
        by_schema = project.dg("check", "yaml", str(path.parent))
        by_loading = project.dg("check", "defs", "--no-check-yaml")
    finally:
        path.write_text(text, "utf-8")
    assert by_schema.returncode == by_loading.returncode == 1
    shown = by_schema.stdout + by_schema.stderr
    assert f"defs.yaml:{line}" in shown
    assert "image_sise" in shown
    loaded = by_loading.stdout + by_loading.stderr
    assert f"attributes.images.image_sise at {path}:{line}" in loaded
    assert "unknown attribute 'image_sise'. Did you mean image_size or min_image_size?" in loaded


def test_dg_loads_our_own_repository(tmp_path: Path) -> None:
    ours = Project(TOP, environment(tmp_path, TOP))
    checked = ours.dg("check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    listed = json.loads(ours.dg("list", "defs", "--json").stdout)
    keys = {asset["asset_key"] for asset in listed["assets"]}
    assert keys == {f"{name}/{stage}" for name, dataset in BUILT_IN.items() for stage in stage_names(dataset)}
