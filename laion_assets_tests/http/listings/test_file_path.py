"""Paths from untrusted listings: none leaves the folder, and no two collide."""

import string
from hashlib import md5
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_assets.http.listings.file_path import MAX_NAME_BYTES, distinct_paths, is_safe


@pytest.mark.parametrize("path", ["a.csv", "2021-01/a b.csv", "é/ü.csv", "..a/b..csv", "a~b.csv", "-rf", "C:/x.csv"])
def test_ordinary_names_pass(path: str) -> None:
    assert is_safe(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "../x.csv",
        "a/../../x.csv",
        "a/./x.csv",
        "a//x.csv",
        "a/",
        "a\x00.csv",
        "a\nb.csv",
        "a\\..\\b.csv",
        "\x7f",
        "bad\ufffdutf8.csv",
        "lone\ud800.csv",
        "x" * (MAX_NAME_BYTES + 1),
        "é" * (MAX_NAME_BYTES // 2 + 1),
        "d/" * 600 + "x.csv",
    ],
)
def test_unsafe_names_are_recognised(path: str) -> None:
    assert not is_safe(path)


@given(st.text(st.sampled_from("./\\a\x00% é"), max_size=12))
def test_safe_path_is_always_below_its_root(path: str) -> None:
    if is_safe(path):
        assert Path("/root", path).resolve().is_relative_to("/root")
        assert Path("/root", path).resolve() != Path("/root")


@given(st.lists(st.lists(st.sampled_from(["a", "A", "b.csv", "B.csv", "é", "e\u0301"]), min_size=1, max_size=3)))
def test_distinct_paths_never_collide_on_any_file_system(names: list[list[str]]) -> None:
    paths = {"/".join(parts) for parts in names}
    places = distinct_paths(paths)
    assert places.keys() == paths
    folded = [place.casefold().replace("e\u0301", "é") for place in places.values()]
    assert len(set(folded)) == len(paths)
    assert not any(other.startswith(f"{place}/") for place in folded for other in folded)


def test_first_path_keeps_its_name_and_colliding_ones_are_marked() -> None:
    first, second = md5(b"f.csv").hexdigest()[:8], md5(b"x/a.csv.gz").hexdigest()[:8]
    assert distinct_paths(["x/A.csv.gz", "x/a.csv.gz", "f.csv", "f.csv/b.csv"]) == {
        "f.csv": f"f~{first}.csv",
        "f.csv/b.csv": "f.csv/b.csv",
        "x/A.csv.gz": "x/A.csv.gz",
        "x/a.csv.gz": f"x/a~{second}.csv.gz",
    }


def test_hundred_thousand_distinct_paths_are_unchanged() -> None:
    names = [f"{first}/{number:05d}.csv" for first in string.ascii_lowercase for number in range(4_000)]
    assert all(path == place for path, place in distinct_paths(names).items())
