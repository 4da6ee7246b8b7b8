"""The lookup of settings: the order of sources, and invalid values."""

from pathlib import Path

import pytest

from laion_assets.dataset.built_in import LAION400M, SAMPLE
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import SettingError
from laion_assets.stages.status import settings_digest


def origin(settings: Settings, name: str) -> tuple[object, str]:
    return next((one.value, one.origin) for one in settings.explain(SAMPLE) if one.name == name)


def settings_of(tmp_path: Path, toml: str = "", **environment: str) -> Settings:
    file = tmp_path / "settings.toml"
    file.write_text(toml)
    return Settings.load({"LAION_ASSETS_SETTINGS": str(file), **environment})


def test_the_first_of_environment_file_and_declaration_wins(tmp_path: Path) -> None:
    toml = "[images]\nthreads = 3\nimage_size = 128\n[sample.images]\nthreads = 4\n"
    settings = settings_of(tmp_path, toml)
    assert origin(settings, "images.threads")[0] == 4
    assert origin(settings, "images.image_size")[0] == 128
    settings = settings_of(tmp_path, toml, LAION_ASSETS_IMAGES_THREADS="5")
    assert origin(settings, "images.threads") == (5, "environment LAION_ASSETS_IMAGES_THREADS")
    settings = settings_of(tmp_path, toml, LAION_ASSETS_IMAGES_THREADS="5", LAION_ASSETS_SAMPLE_IMAGES_THREADS="6")
    assert origin(settings, "images.threads")[0] == 6
    assert origin(settings, "images.fetch.retries")[1] == "dataset sample"


def test_setting_of_one_dataset_does_not_change_another(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, LAION_ASSETS_LAION400M_SOURCE="https://example.org/csv/")
    assert settings.apply(LAION400M).source == "https://example.org/csv/"
    assert settings.apply(SAMPLE).source == SAMPLE.source


def test_maps_and_lists_are_read_from_text(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path,
        LAION_ASSETS_RESOLVE='{"*.test": "127.0.0.1:80"}',
        LAION_ASSETS_IMAGES_FETCH_ALLOWED_PORTS="80,8080",
    )
    assert settings.apply(SAMPLE).resolve == {"*.test": "127.0.0.1:80"}
    assert settings.apply(SAMPLE).images.fetch.allowed_ports == (80, 8080)


@pytest.mark.parametrize(
    ("toml", "environment", "named"),
    [
        ("[images]\nthreds = 3\n", {}, "images.threds"),
        ("[images\n", {}, "not valid TOML"),
        ("", {"LAION_ASSETS_IMAGES_THREADS": "many"}, "LAION_ASSETS_IMAGES_THREADS"),
        ("", {"LAION_ASSETS_RESOLVE": "127.0.0.1"}, "resolve"),
        ("", {"LAION_ASSETS_IMAGES_RESIZE_MODE": "stretch"}, "resize_mode"),
        ("", {"LAION_ASSETS_IMAGES_FETCH_DEADLINE_S": "0.1"}, "deadline_s"),
    ],
)
def test_invalid_setting_is_named(tmp_path: Path, toml: str, environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingError, match=named):
        settings_of(tmp_path, toml, **environment).apply(SAMPLE)


def test_named_settings_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="does not exist"):
        Settings.load({"LAION_ASSETS_SETTINGS": str(tmp_path / "none.toml")})


def test_only_settings_that_change_bytes_make_shards_stale(tmp_path: Path) -> None:
    def digest(**environment: str) -> str:
        return settings_digest(settings_of(tmp_path, **environment).apply(SAMPLE), "image_shards")

    assert digest(LAION_ASSETS_IMAGES_THREADS="3", LAION_ASSETS_IMAGES_FETCH_DEADLINE_S="60") == digest()
    assert digest(LAION_ASSETS_IMAGES_IMAGE_SIZE="128") != digest()
