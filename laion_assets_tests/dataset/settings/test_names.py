"""Names of settings, sections and variables: each is a setting, a documented variable, or an error."""

from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.dataset.built_in import LAION400M, SAMPLE
from laion_assets.dataset.dataset import RESERVED_NAMES, Dataset
from laion_assets.dataset.settings.names import FIELDS, OTHER_VARIABLES
from laion_assets.dataset.settings.reference import reference
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.definitions import build_definitions
from laion_assets.errors import SettingError

MINE = Dataset(name="mine", description="Own rows.", layout=SAMPLE.layout, source="pairs", model="sample-clip")


def settings_of(tmp_path: Path, toml: str = "", **environment: str) -> Settings:
    file = tmp_path / "settings.toml"
    file.write_text(toml, encoding="utf-8")
    return Settings.load({"LAION_ASSETS_SETTINGS": str(file), **environment})


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("LAION_ASSETS_IMAGES_THREDS", "LAION_ASSETS_IMAGES_THREADS"),
        ("LAION_ASSETS_IMAGE_THREADS", "LAION_ASSETS_IMAGES_THREADS"),
        ("LAION_ASSETS_THREADS", None),
        ("LAION_ASSETS_SAMPLE_IMAGES_THREDS", "LAION_ASSETS_SAMPLE_IMAGES_THREADS"),
        ("LAION_ASSETS_SAMPLE_IMAGE_THREADS", "LAION_ASSETS_SAMPLE_IMAGES_THREADS"),
        ("LAION_ASSETS_SAMPEL_IMAGES_THREADS", "sample"),
        ("LAION_ASSETS_LAION400_SOURCE", "laion400m"),
        ("LAION_ASSETS_LAION400MM_SOURCE", "laion400m"),
        ("LAION_ASSETS_SETINGS", "LAION_ASSETS_SETTINGS"),
        ("LAION_ASSETS_images_threads", "LAION_ASSETS_IMAGES_THREADS"),
        ("LAION_ASSETS_DEDUP_WHERE_ROOT", None),
        ("LAION_ASSETS_", None),
        ("LAION_ASSETS_ROOT_", "LAION_ASSETS_ROOT"),
    ],
)
def test_a_misspelt_variable_is_an_error_with_the_nearest_names(variable: str, near: str | None) -> None:
    with pytest.raises(SettingError) as raised:
        Settings({}, "", {variable: "3"}).apply(SAMPLE)
    assert variable in str(raised.value)
    assert near is None or near in str(raised.value).removeprefix(f"Unknown environment variable {variable}")


def test_variables_of_other_datasets_and_documented_ones_are_accepted() -> None:
    environment = {
        "LAION_ASSETS_LAION400M_IMAGES_THREADS": "3",
        "LAION_ASSETS_LAION400M_00_01_IMAGES_THREADS": "3",
        "LAION_ASSETS_MINE_RESOLVE": '{"*": "127.0.0.1:80"}',
        "LAION_ASSETS_MINE_00_01_ROOT": "/data",
        "laion_assets_images_threds": "3",
        **dict.fromkeys(OTHER_VARIABLES, ""),
    }
    settings = Settings({}, "", environment)
    assert settings.apply(SAMPLE) == replace(SAMPLE, root=settings.apply(SAMPLE).root)
    others = settings.variables_of_others(SAMPLE)
    assert others == {"LAION_ASSETS_MINE_RESOLVE": "mine", "LAION_ASSETS_MINE_00_01_ROOT": "mine_00_01"}
    assert settings.variables_of_others(MINE) == {}
    assert settings.apply(MINE).resolve == {"*": "127.0.0.1:80"}


def test_dataset_name_close_to_a_known_one_can_be_declared(tmp_path: Path) -> None:
    variable = {"LAION_ASSETS_SAMPLE2_IMAGES_THREADS": "3"}
    with pytest.raises(SettingError, match="LAION_ASSETS_DATASETS"):
        Settings({}, "", variable).apply(SAMPLE)
    Settings({}, "", {**variable, "LAION_ASSETS_DATASETS": "sample2, other"}).apply(SAMPLE)
    own = "[sample2.images]\nthreads = 3\n"
    with pytest.raises(SettingError, match=r"\[sample2\]: 'sample2' is not a known dataset. Did you mean sample"):
        settings_of(tmp_path, own).apply(SAMPLE)
    settings_of(tmp_path, f'datasets = ["sample2"]\n{own}', **variable).apply(SAMPLE)
    assert settings_of(tmp_path, own).apply(replace(SAMPLE, name="sample2")).images.threads == 3
    for wrong in ('"sample2"', "[3]", '["a-b"]', "{}"):
        with pytest.raises(SettingError, match="datasets"):
            settings_of(tmp_path, f"datasets = {wrong}\n").apply(SAMPLE)
    with pytest.raises(SettingError, match="LAION_ASSETS_DATASETS has 'a-b'"):
        Settings({}, "", {"LAION_ASSETS_DATASETS": "a-b"}).apply(SAMPLE)


def test_sections_of_own_datasets_and_of_subsets_are_read(tmp_path: Path) -> None:
    subset = LAION400M.subset(range(0, 2))
    toml = "[mine.images]\nthreads = 8\n[laion400m_00_01.images]\nthreads = 9\n[mine_00_01]\nmodel = 'sample-clip'\n"
    settings = settings_of(tmp_path, toml)
    assert settings.apply(MINE).images.threads == 8
    assert settings.apply(MINE.subset(range(0, 2))).images.threads == 8
    assert settings.apply(subset).images.threads == 9
    assert settings.apply(LAION400M).images.threads == 64
    assert settings.apply(SAMPLE).images.threads == 32


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[images]\nthreds = 3\n", "sets images.threds, which is not a setting. Did you mean images.threads"),
        ("[image]\nthreads = 3\n", "Did you mean images.threads"),
        ("[sample.image]\nthreads = 3\n", "Did you mean sample.images.threads"),
        ("[sample]\nthreads = 3\n", "Did you mean sample.images.threads"),
        ("[mine]\nthreads = 3\n", "sets mine.threads, which is not a setting. Did you mean images.threads"),
        ("threads = 3\n", "sets threads, which is not a setting. Did you mean images.threads"),
        (
            "[sampel.images]\nthreads = 3\n",
            "has a section [sampel]: 'sampel' is not a known dataset. Did you mean sample",
        ),
        ("[dedup.wher]\nmin_width = 3\n", "dedup.wher.min_width, which is not a setting"),
        ("images = 3\n", "sets images: it must be a table, [images]"),
        ("[sample]\nimages = 3\n", "sets sample.images: it must be a table"),
        ("[sample]\ndatasets = []\n", "sample.datasets, which is not a setting"),
        ("sample = 3\n", "sets sample, which is not a setting"),
        ("[my-data]\nroot = 'x'\n", "my-data.root, which is not a setting"),
        ("[layout]\nshards = 3\n", "layout"),
    ],
)
def test_unknown_setting_in_the_file_is_reported_with_the_nearest_name(tmp_path: Path, toml: str, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        settings_of(tmp_path, toml).apply(SAMPLE)
    assert message in str(raised.value)
    assert "settings.toml" in str(raised.value)


BAD = [
    "",
    "a-b",
    "a.b",
    "a/b",
    "a\\b",
    "..",
    "a b",
    "a\n",
    "1a",
    "_a",
    "x" * 300,
    "straße",
    "数据",
    "a\0",
    "ａ",
    "sample:0",
]


@pytest.mark.parametrize("name", [*BAD, *sorted(RESERVED_NAMES), "Images", "ROOT"])
def test_invalid_dataset_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="Invalid dataset name"):
        replace(SAMPLE, name=name)


@pytest.mark.parametrize("name", ["a", "mine", "Mine_2", "type", "context", "x" * 64, "a__b"])
def test_any_valid_name_has_a_graph_and_subsets(name: str) -> None:
    dataset = replace(SAMPLE, name=name)
    for each in (dataset, dataset.subset(range(0, 2))):
        assert build_definitions(each).get_repository_def().asset_graph.get_all_asset_keys()


def test_settings_page_is_up_to_date() -> None:
    written = (Path(__file__).parents[3] / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == reference(), "run: laion-assets settings --markdown > docs/settings.md"


def test_setting_names_are_reserved() -> None:
    assert {name.partition(".")[0] for name in FIELDS} <= RESERVED_NAMES
