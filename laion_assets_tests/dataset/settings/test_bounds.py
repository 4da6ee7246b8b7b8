"""Bounds of all numeric settings: they are declared, accepted at both ends, and enforced beyond with our messages."""

import dataclasses
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laion_assets.dataset.built_in import BUILT_IN, SAMPLE
from laion_assets.dataset.settings.field import find_problem, parse_type, setting
from laion_assets.dataset.settings.names import FIELDS
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import SettingError
from laion_assets.stages.status import settings_digest

NUMBERS = {name: field for name, field in FIELDS.items() if parse_type(field)[1] in (int, float)}
DIGESTS = {
    "laion400m": "704405641f8c07886d97d3e7b939c18c 709b81b143c3d03c70ae74b57d9b780e 23b6d0e625b3784563234618d6304968 "
    "f4a0ca19173682a8d9e7618d9fa6d1d5 bca123ff7700170b775869caef1a0549",
    "sample": "0d30c0ad34568c5ac89f2e9db8483561 11c064710aff31867da3c76067cfe8d6 23b6d0e625b3784563234618d6304968 "
    "f290b4d3d982581e33adf6590db57098 ea116ef9e7bc724c600289e1ad6dba58",
    "rehearsal": "e08b50d19c9e0d98564aec80d50b61f9 3e34c34a3449ef59a05307fb0f67413a 592b5d9ebc48deb38898d4f7d8b1db63 "
    "f4a0ca19173682a8d9e7618d9fa6d1d5 ea116ef9e7bc724c600289e1ad6dba58",
}


def values(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if "help" in field.metadata:
            yield f"{prefix}{field.name}", value
        elif dataclasses.is_dataclass(value) and field.name != "layout":
            yield from values(value, f"{prefix}{field.name}.")


def apply(tmp_path: Path, name: str, toml: str) -> Any:
    """Return the value of a setting from a file. Of a list, return its only item."""
    table, _, key = name.rpartition(".")
    value = f"[{toml}]" if parse_type(FIELDS[name])[0] is tuple else toml
    file = tmp_path / "settings.toml"
    file.write_text(f"[{table}]\n{key} = {value}\n" if table else f"{key} = {value}\n")
    found = dict(values(Settings.load({"LAION_ASSETS_SETTINGS": str(file)}).apply(SAMPLE)))[name]
    return found[0] if isinstance(found, tuple) else found


def test_every_setting_of_every_dataset_has_a_declaration_that_holds() -> None:
    assert len(NUMBERS) > 40
    for name, field in FIELDS.items():
        assert field.metadata["help"], name
        assert not isinstance(field.type, str), f"{name}: leave out `from __future__ import annotations`"
    for dataset in BUILT_IN.values():
        found = dict(values(dataset))
        assert found.keys() == FIELDS.keys()
        for name, value in found.items():
            assert find_problem(FIELDS[name], value) is None, name


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_bounds_that_are_accepted(name: str) -> None:
    """Checks only the declaration of the setting. A bound may contradict another setting, which is another test."""
    field = NUMBERS[name]
    low, high = field.metadata["min"], field.metadata["max"]
    assert low is not None, f"{name} has no bounds: declare setting(..., min=, max=)"
    assert high is not None, f"{name} has no bounds: declare setting(..., min=, max=)"
    assert low < high
    is_list = parse_type(field)[0] is tuple
    for bound in (low, high):
        assert find_problem(field, (bound,) if is_list else bound) is None
    if parse_type(field)[1] is int:
        assert isinstance(low, int)
        assert isinstance(high, int)


COMPANIONS = {
    "images.min_image_size": {"images.max_pixels": 1_000_000_000},
    "images.max_pixels": {"images.min_image_size": 4},
    "images.fetch.max_body_bytes": {"images.fetch.max_bytes_in_flight": 1_000_000_000_000},
    "images.fetch.max_bytes_in_flight": {"images.fetch.max_body_bytes": 10_000},
    "images.fetch.connect_timeout_s": {"images.fetch.deadline_s": 3_600},
    "images.fetch.deadline_s": {"images.fetch.connect_timeout_s": 0.1},
    "images.encode_quality": {"images.encode_format": "webp"},
    "dedup.where.min_caption_chars": {"dedup.max_caption_chars": 1_000_000},
}
"""Settings that must be changed together with a bound, so that they do not contradict it."""


@pytest.mark.parametrize("name", NUMBERS)
def test_every_bound_of_a_number_can_be_set(name: str) -> None:
    for bound in (NUMBERS[name].metadata["min"], NUMBERS[name].metadata["max"]):
        given = {**COMPANIONS.get(name, {}), name: bound}
        variables = {f"LAION_ASSETS_{key.replace('.', '_').upper()}": str(value) for key, value in given.items()}
        found = dict(values(Settings({}, "", variables).apply(SAMPLE)))[name]
        assert found == ((bound,) if parse_type(NUMBERS[name])[0] is tuple else bound)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_refuses_values_out_of_bounds_and_other_types(tmp_path: Path, name: str) -> None:
    low, high = NUMBERS[name].metadata["min"], NUMBERS[name].metadata["max"]
    wrong = ["nan", "-inf", "true", '"many"', '"8"', "[]", "{}", "2024-01-01", str(low - 1)]
    if math.isfinite(high):
        wrong += ["inf", str(high + 1), str(high * 10 + 10), "9" * 400]
    if parse_type(NUMBERS[name])[1] is int:
        wrong += [str(low + 0.9)]
    for value in wrong:
        with pytest.raises(SettingError) as raised:
            apply(tmp_path, name, value)
        message = str(raised.value)
        assert message.startswith(f"{name} is "), message
        assert "settings.toml" in message
        assert re.search(r"\): (it|each item) must be a", message), message
        assert f"{int(low):,}" in message


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "text", ["nan", "-inf", "true", "many", "-99999999999", "1e400", "0x10", "１", "9" * 5000, " "]
)
def test_every_number_refuses_a_variable_that_is_not_a_valid_number(name: str, text: str) -> None:
    if text == "1e400" and math.isinf(NUMBERS[name].metadata["max"]):
        return
    variable = f"LAION_ASSETS_{name.replace('.', '_').upper()}"
    with pytest.raises(SettingError) as raised:
        Settings({}, "", {variable: text}).apply(SAMPLE)
    assert str(raised.value).startswith(f"{name} is ")
    assert f"(from environment {variable})" in str(raised.value)
    assert len(str(raised.value)) < 400


def test_declaring_a_number_without_bounds_fails() -> None:
    for default in (1, 0.5, (80, 443)):
        with pytest.raises(TypeError, match="has no bounds"):
            setting(default, "a number")

    @dataclasses.dataclass(frozen=True)
    class Group:
        least: int | None = setting(None, "a number or nothing")

    with pytest.raises(TypeError, match="least has no bounds"):
        find_problem(dataclasses.fields(Group)[0], 3)


def test_integral_floats_become_integers_and_others_are_refused(tmp_path: Path) -> None:
    assert repr(apply(tmp_path, "images.threads", "2.0")) == "2"
    assert repr(apply(tmp_path, "images.fetch.max_body_bytes", "2e7")) == "20000000"
    assert repr(apply(tmp_path, "images.max_aspect_ratio", "20")) == "20.0"
    with pytest.raises(SettingError, match=r"images\.threads is 2\.9 .* must be an integer from 1 to 4,096"):
        apply(tmp_path, "images.threads", "2.9")
    with pytest.raises(SettingError, match=r"images\.threads is '2\.9' .* must be an integer from 1 to 4,096"):
        Settings({}, "", {"LAION_ASSETS_IMAGES_THREADS": "2.9"}).apply(SAMPLE)


def test_values_set_in_python_are_checked() -> None:
    for wrong in (0, -1, 2.5, True, "8", None, float("nan")):
        with pytest.raises(SettingError, match=r"images\.threads"):
            dataclasses.replace(SAMPLE.images, threads=wrong)


@pytest.mark.parametrize("name", DIGESTS)
def test_settings_digests_of_the_built_in_datasets_do_not_change(name: str) -> None:
    """A changed digest makes every existing partition stale. The digest of the model is that of its weights."""
    assets = ("raw_csv", "dedup_parquet", "image_shards", "dataset_statistics", "knn_indices")
    assert [settings_digest(BUILT_IN[name], asset) for asset in assets] == DIGESTS[name].split()
