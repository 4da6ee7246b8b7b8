"""Values of the settings file and of variables: lists, maps, text formats, contradictions, and invalid files."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.settings.file import MAX_BYTES
from laion_assets.dataset.settings.names import FIELDS
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import SettingError
from laion_assets.http.listings.file_pattern import compile_pattern


def settings_of(tmp_path: Path, toml: str = "", **environment: str) -> Settings:
    file = tmp_path / "settings.toml"
    file.write_text(toml, encoding="utf-8")
    return Settings.load({"LAION_ASSETS_SETTINGS": str(file), **environment})


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("/data/a.parquet,/data/b.parquet", ("/data/a.parquet", "/data/b.parquet")),
        (" a , b ,", ("a", "b")),
        (r"/data/a\,b", ("/data/a,b",)),
        (r"a\\,b\c", (r"a\ ".strip(), r"b\c")),
        ('["/data/a,b", "", "c"]', ("/data/a,b", "", "c")),
        ("[]", ()),
        ("", ()),
    ],
)
def test_a_list_in_a_variable(text: str, items: tuple[str, ...]) -> None:
    assert Settings({}, "", {"LAION_ASSETS_PUBLISHED": text}).apply(SAMPLE).published == items


def test_a_list_in_the_file(tmp_path: Path) -> None:
    assert settings_of(tmp_path, 'published = ["/a,b", "c"]').apply(SAMPLE).published == ("/a,b", "c")
    assert settings_of(tmp_path, '[sample]\npublished = "/data/a,b"').apply(SAMPLE).published == ("/data/a,b",)
    one = settings_of(tmp_path, '[images.fetch]\nopt_out_tokens = "one"').apply(SAMPLE)
    assert one.images.fetch.opt_out_tokens == ("one",)
    with pytest.raises(SettingError, match=r'Write opt_out_tokens = \["one", "two"\]'):
        settings_of(tmp_path, '[images.fetch]\nopt_out_tokens = "one, two"').apply(SAMPLE)


def test_a_map_has_dotted_names(tmp_path: Path) -> None:
    toml = '[spark.conf]\n"spark.a" = "8g"\nspark.b.c = 4\nspark.d = true\n[resolve]\na.test = "127.0.0.1:80"\n'
    found = settings_of(tmp_path, toml).apply(SAMPLE)
    assert found.spark.conf == {"spark.a": "8g", "spark.b.c": "4", "spark.d": "true"}
    assert found.resolve == {"a.test": "127.0.0.1:80"}


def test_an_optional_setting_is_unset_by_an_empty_text(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "[dedup.where]\nmin_width = 3\n", LAION_ASSETS_DEDUP_WHERE_MIN_WIDTH="")
    assert settings.apply(SAMPLE).dedup.where.min_width is None


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("csv.pattern", "(csv", "must be a valid Python regular expression (missing )"),
        ("csv.pattern", "a{99999999999}", "must be a valid Python regular expression"),
        ("dedup.separator", "||", "must be one ASCII character"),
        ("dedup.separator", "\n", "must be one ASCII character"),
        ("spark.driver_memory", "2 GB", "must be an integer with k, m, g or t and no space"),
        ("spark.driver_memory", "2GB", "for example 2g"),
        ("spark.driver_memory", "100m", "from 512m"),
        ("spark.driver_memory", "-2g", "for example 2g"),
        ("spark.master", "local[0]", "must be local[*]"),
        ("spark.master", "", "must be local[*]"),
        ("csv.deleted_at_source", "delete", "must be keep, remove or refuse"),
        ("index.max_index_memory_usage", "16 buckets", "for example 200M or 16G"),
        ("index.current_memory_available", "0G", "from 1K"),
        ("index.metric_type", "cosine", "must be ip or l2"),
        ("embeddings.device", "gpu", "must be auto, cpu, cuda or cuda:N"),
        ("embeddings.precision", "int8", "must be auto, fp32, bf16 or fp16"),
        ("images.distributor", "ray", "must be pool or spark"),
        ("images.engine", "curl", "must be laion_assets or img2dataset"),
        ("images.fetch.user_agent", "a\nb", "one line of printable ASCII"),
        ("root", "", "must not be empty"),
        ("root", "a\0b", "without NUL"),
        ("root", "~nobody_of_this_name/x", "without ~"),
        ("model", " ", "must not be empty"),
        ("resolve", '{"*": "localhost:80"}', "the value of '*' must be an IP address and a port"),
        ("resolve", '{"*": "127.0.0.1:0"}', "must be an IP address and a port"),
        ("resolve", '{"*": 80}', "must be an IP address and a port"),
        ("resolve", "[1]", "must be a table"),
        ("resolve", "{", "from environment LAION_ASSETS_RESOLVE"),
        ("images.fetch.allowed_ports", "", "must have at least one item"),
        ("images.fetch.allowed_ports", "80,http", "each item must be an integer from 1 to 65,535"),
        ("images.fetch.allowed_ports", "[80", "is not a JSON list"),
        ("images.fetch.opt_out_tokens", '["a b"]', "must be one name"),
        ("images.fetch.robots_txt", "yes", "must be true or false"),
    ],
)
def test_text_of_the_wrong_form_is_refused(setting: str, value: str, expected: str) -> None:
    variable = f"LAION_ASSETS_{setting.replace('.', '_').upper()}"
    with pytest.raises(SettingError) as raised:
        Settings({}, "", {variable: value}).apply(SAMPLE)
    assert expected in str(raised.value)
    assert str(raised.value).startswith(f"{setting} is ")
    assert f"(from environment {variable})" in str(raised.value)


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        ('[images]\nthreads = "8"', "must be an integer"),
        ("[spark]\ndriver_memory = 2", "must be text"),
        ('[images.fetch]\nrobots_txt = "false"', "must be true or false"),
        ("[images.fetch]\nrobots_txt = 1", "must be true or false"),
        ("root = []", "must be text"),
        ("published = 3", "must be a list"),
        ("published = [3]", "each item must be text"),
        ("published = {}", "must be a list"),
        ("resolve = 3", "must be a table"),
        ("resolve = {a = []}", "the value of 'a' must be text"),
    ],
)
def test_value_of_another_type_in_the_file_is_refused(tmp_path: Path, toml: str, expected: str) -> None:
    with pytest.raises(SettingError, match=expected) as raised:
        settings_of(tmp_path, toml).apply(SAMPLE)
    assert "settings.toml [" in str(raised.value)


def test_settings_that_contradict_each_other_name_their_origins(tmp_path: Path) -> None:
    variable = "LAION_ASSETS_IMAGES_FETCH_CONNECT_TIMEOUT_S"
    settings = settings_of(tmp_path, "[images.fetch]\ndeadline_s = 1\n", **{variable: "2"})
    with pytest.raises(SettingError) as raised:
        settings.apply(SAMPLE)
    message = str(raised.value)
    assert "Raise the deadline or lower the timeout" in message
    assert f"images.fetch.connect_timeout_s comes from environment {variable}." in message
    assert f"images.fetch.deadline_s comes from {tmp_path / 'settings.toml'} [images.fetch.deadline_s]." in message


@pytest.mark.parametrize(
    "toml",
    [
        "[images]\nmin_image_size = 500\nmax_pixels = 5000\n",
        "[images]\nmin_image_size = 500\nmax_image_area = 5000\n",
        "[images.fetch]\nmax_body_bytes = 1000000000\n",
        '[images]\nencode_format = "png"\n',
        "[dedup]\nmax_caption_chars = 5\nwhere.min_caption_chars = 6\n",
        "[dedup.where]\nmin_width = 5\nmax_width = 4\n",
        '[embeddings]\ndevice = "cpu"\nprecision = "fp16"\n',
    ],
)
def test_settings_that_would_keep_no_row_are_refused(tmp_path: Path, toml: str) -> None:
    with pytest.raises(SettingError, match=r"comes from .*settings\.toml"):
        settings_of(tmp_path, toml).apply(SAMPLE)


def test_a_byte_order_mark_and_other_alphabets_are_read(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b'\xef\xbb\xbfroot = "/\xe6\x95\xb0\xe6\x8d\xae"\n[images]\nthreads = 8\n')
    found = Settings.load({"LAION_ASSETS_SETTINGS": str(file)}).apply(SAMPLE)
    assert (found.root, found.images.threads) == ("/数据", 8)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[images\n", "not valid TOML"),
        ("root = 'x'\n".encode("utf-16"), "not valid TOML in UTF-8"),
        (b"root = '\xff'\n", "not valid TOML in UTF-8"),
        (b"a = " + b"[" * 100_000, "not valid TOML"),
        (b"a = " + b"9" * 100_000, "not valid TOML"),
        (b"a." * 5_000 + b"a = 1", "nested too deeply"),
        (b"[resolve]\n" + b"a." * 40 + b"a = 1", "nested too deeply"),
        (b"#" * (MAX_BYTES + 1), "more than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with pytest.raises(SettingError, match=expected) as raised:
        Settings.load({"LAION_ASSETS_SETTINGS": str(file)})
    assert str(file) in str(raised.value)


@pytest.mark.timeout(10)
def test_settings_file_that_is_not_a_regular_file_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, expected in (("fifo", "not a regular file"), (".", "is a folder")):
        with pytest.raises(SettingError, match=expected):
            Settings.load({"LAION_ASSETS_SETTINGS": str(tmp_path / name)})
    with pytest.raises(SettingError, match="not a regular file"):
        Settings.load({"LAION_ASSETS_SETTINGS": "/dev/zero"})
    with pytest.raises(SettingError, match="cannot be read: File name too long"):
        Settings.load({"LAION_ASSETS_SETTINGS": "x" * 5_000})
    assert Settings.load({"LAION_ASSETS_SETTINGS": os.devnull}).apply(SAMPLE).images == SAMPLE.images


def test_a_default_file_that_is_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "laion-assets.toml").mkdir()
    with pytest.raises(SettingError, match="is a folder"):
        Settings.load({})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*FIELDS, "images", "sample", "mine", "dedup.where", "datasets", "a-b", ""])


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in flat.items():
        *tables, key = name.split(".")
        inner = found
        for table in tables:
            if not isinstance(inner.get(table), dict):
                inner[table] = {}
            inner = inner[table]
        inner[key] = value
    return found


@hypothesis_settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(KEYS, VALUES, max_size=3), st.dictionaries(KEYS, st.text(max_size=8) | VALUES.map(str), max_size=2)
)
def test_any_values_raise_only_setting_errors(tables: dict[str, Any], variables: dict[str, Any]) -> None:
    """Tables as tomllib returns them, and variables with any text, JSON included."""
    environment = {f"LAION_ASSETS_{name.replace('.', '_').upper()}": text for name, text in variables.items()}
    with contextlib.suppress(SettingError):
        found = Settings(nested(tables), "settings.toml", environment).explain(SAMPLE)
        json.dumps([one.value for one in found])


@hypothesis_settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(alphabet="[]{}=.,'\"\n ab1-_#", max_size=60).map(str.encode))
def test_any_file_raises_only_setting_errors(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    with contextlib.suppress(SettingError):
        Settings.load({"LAION_ASSETS_SETTINGS": str(file)}).apply(SAMPLE)


def test_a_pattern_that_python_warns_of_is_used_without_a_warning() -> None:
    settings = Settings({}, "", {"LAION_ASSETS_CSV_PATTERN": r"[[a-b]\.csv$"})
    pattern = compile_pattern(settings.apply(SAMPLE).csv.pattern)
    assert pattern.search("x[.csv")
    assert not pattern.search("x].csv")
