"""The component from a `defs.yaml`: attributes, templates, precedence, and errors that name the line."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from laion_assets import DatasetComponent, LaionAssetsError, load_dataset
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.settings.names import FIELDS
from laion_assets.orchestration.stage_parts import load_asset
from laion_assets.stages.registry import stage_names

TEN_LINES = """\
type: laion_assets.DatasetComponent

attributes:
  name: cats
  source: /data/cats/csv
  root: "{{ env.CATS_ROOT }}"
  model: ViT-B/32
  layout: {parquet_files: 4, shards: 100, embedding_files: 10, rows_per_shard: 1000}
  images:
    image_size: 384
"""


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The root that the templates name; no settings file is near."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CATS_ROOT", str(tmp_path / "data"))
    return tmp_path / "data"


def component(text: str, folder: Path) -> DatasetComponent:
    """The component of a `defs.yaml` with this text. Raises the error that Dagster reports as the cause."""
    path = folder / "defs.yaml"
    path.write_text(text, "utf-8")
    try:
        file: Any = DatasetComponent.from_yaml_path(path)
    except Exception as error:
        raise (error.__cause__ or error) from None
    (found,) = file.components
    assert isinstance(found, DatasetComponent)
    return found


def test_ten_lines_declare_a_dataset(tmp_path: Path, root: Path) -> None:
    assert len(TEN_LINES.splitlines()) == 10
    dataset = component(TEN_LINES, tmp_path).dataset
    assert (dataset.name, dataset.source, dataset.root, dataset.model) == (
        "cats", "/data/cats/csv", str(root), "ViT-B/32"
    )  # fmt: skip
    assert (dataset.layout.shards, dataset.layout.parquet_files) == (100, 4)
    assert dataset.images.image_size == 384
    assert dataset.embeddings == SAMPLE.embeddings.__class__()


def test_the_definitions_are_those_of_the_dataset(tmp_path: Path) -> None:
    found = component(TEN_LINES, tmp_path)
    definitions = found.build_defs(dg.ComponentTree.for_test().load_context)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {f"cats/{stage}" for stage in stage_names(found.dataset)}
    assert (definitions.executor, definitions.loggers) == (None, None)
    assert all(key.startswith("cats_") for key in definitions.resources or {})


def test_every_setting_is_an_attribute_with_its_help() -> None:
    schema = DatasetComponent.model().model_json_schema()

    def properties(node: dict[str, Any], prefix: str = "") -> dict[str, str]:
        found = {}
        for name, each in node["properties"].items():
            if "$ref" in each:
                group = schema["$defs"][each["$ref"].rpartition("/")[2]]
                found |= properties(group, f"{prefix}{name}.")
            else:
                found[f"{prefix}{name}"] = each["description"]
        return found

    described = properties(schema)
    assert set(FIELDS) <= set(described)
    assert all(described[name].startswith(field.metadata["help"]) for name, field in FIELDS.items())
    assert set(described) - set(FIELDS) == {
        "name", "description", "layout.parquet_files", "layout.shards", "layout.embedding_files",
        "layout.rows_per_shard", "embedding_sets",
    }  # fmt: skip


def test_embedding_sets_are_attributes_and_part_of_the_definitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = """\
  embeddings: {batch_size: 32}
  embedding_sets:
    siglip:
      model: "open_clip:small/{{ env.CATS_TAG }}"
      embeddings: {device: cpu}
"""
    monkeypatch.setenv("CATS_TAG", "tag")
    found = component(TEN_LINES + sets, tmp_path)
    siglip = found.dataset.embedding_set("siglip")
    assert (siglip.name, siglip.model) == ("cats_siglip", "open_clip:small/tag")
    assert (siglip.embeddings.batch_size, siglip.embeddings.device) == (32, "cpu")
    definitions = found.build_defs(dg.ComponentTree.for_test().load_context)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert {key for key in keys if key.startswith("cats_")} == {
        f"cats_siglip/{stage}" for stage in ("clip_embeddings", "knn_indices", "search_report")
    }
    with pytest.raises(LaionAssetsError, match=r"Invalid name of an embedding set of cats: 'a b'.*defs\.yaml:1[2-9]"):
        component(TEN_LINES + sets.replace("siglip:", "a b:"), tmp_path)
    with pytest.raises(ValidationError, match="unknown attribute 'images'"):
        component(TEN_LINES + sets.replace("embeddings: {device: cpu}", "images: {threads: 2}"), tmp_path)


def test_settings_file_and_environment_override_the_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declared = component(TEN_LINES, tmp_path).dataset
    assert load_dataset(declared).images.image_size == 384
    (tmp_path / "laion-assets.toml").write_text("[cats.images]\nimage_size = 320\n", "utf-8")
    assert load_dataset(declared).images.image_size == 320
    monkeypatch.setenv("LAION_ASSETS_IMAGES_IMAGE_SIZE", "288")
    assert load_dataset(declared).images.image_size == 288


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("image_size: 384", "image_size: big", 10, "images.image_size is 'big'"),
        ("image_size: 384", "image_size: 100000", 10, "it must be an integer from 8 to 8,192"),
        ("name: cats", "name: images", 4, "Invalid dataset name 'images'"),
        ("shards: 100", "shards: 2", 8, "do not fit 2 shards"),
        ("shards: 100", "shards: many", 8, "layout.shards is 'many'"),
        ("shards: 100", 'shards: "{{ env.CATS_ROOT }}"', 8, "it must be an integer"),
        ("model: ViT-B/32", 'model: ""', 7, "model is ''"),
        ("model: ViT-B/32", "resolve: {x.test: nowhere}", 7, "must be an IP address and a port"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_its_line(
    old: str, new: str, line: int, message: str, tmp_path: Path
) -> None:
    assert old in TEN_LINES
    with pytest.raises(LaionAssetsError) as caught:
        component(TEN_LINES.replace(old, new), tmp_path)
    assert message in str(caught.value)
    assert f"{tmp_path / 'defs.yaml'}:{line}" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("images:", "imagez:", 9, "unknown attribute 'imagez'. Did you mean images?"),
        ("image_size", "image_sise", 10, "unknown attribute 'image_sise'. Did you mean image_size"),
        ("image_size", "colour", 10, "unknown attribute 'colour'. Choose from"),
        ("shards: 100", "shard: 100", 8, "unknown attribute 'shard'. Did you mean shards"),
        ("image_size: 384", "image_size: [1]", 10, "valid integer"),
        ("name: cats", "part_of: cats", 4, "unknown attribute 'part_of'"),
    ],
)
def test_an_unknown_attribute_or_a_wrong_type_is_named_with_its_line(
    old: str, new: str, line: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError) as caught:
        component(TEN_LINES.replace(old, new), tmp_path)
    assert message in str(caught.value)
    assert f"{tmp_path / 'defs.yaml'}:{line}" in str(caught.value)


def test_a_missing_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="layout"):
        component(TEN_LINES.replace("  layout:", "  # layout:"), tmp_path)


def test_assets_of_two_datasets_use_their_own_resources() -> None:
    from laion_assets.stages.image_shards.stage import STAGE

    asset = load_asset(STAGE, SAMPLE)
    assert asset.required_resource_keys >= {"sample_spark", "sample_crawl_site", "sample_image_shards_io_manager"}
