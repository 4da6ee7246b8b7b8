"""The layout: properties of its arithmetic over all values."""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_assets.dataset.built_in import LAION400M, SAMPLE
from laion_assets.dataset.layout import Layout
from laion_assets.errors import LayoutError


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    shards = draw(st.integers(1, 3_000))
    return Layout(draw(st.integers(1, shards)), shards, draw(st.integers(1, shards)), draw(st.integers(1, 10_000)))


@given(layouts())
def test_every_shard_has_one_parquet_and_one_embedding_file_in_order(layout: Layout) -> None:
    for count, shards_of, owner in (
        (layout.parquet_files, layout.shards_of_parquet, layout.parquet_of_shard),
        (layout.embedding_files, layout.shards_of_embedding, layout.embedding_of_shard),
    ):
        covered = [shard for part in range(count) for shard in shards_of(part)]
        assert covered == list(range(layout.shards))
        assert all(shard in shards_of(owner(shard)) for shard in covered)


@given(layouts(), st.integers(0, 2**128 - 1))
def test_a_uid_belongs_to_the_one_parquet_file_whose_range_holds_it(layout: Layout, number: int) -> None:
    parquet = layout.parquet_of_uid(f"{number:032x}")
    first, end = layout.uid_range(parquet)
    assert first <= number < end


@given(layouts())
def test_uid_ranges_tile_the_hash_space(layout: Layout) -> None:
    ranges = [layout.uid_range(parquet) for parquet in range(layout.parquet_files)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 2**128
    assert all(left[1] == right[0] for left, right in itertools.pairwise(ranges))


@given(layouts(), st.integers(0, 50_000))
def test_rows_are_split_evenly_and_completely(layout: Layout, rows: int) -> None:
    shards = len(layout.shards_of_parquet(0))
    parts = [layout.rows_of_shard(position, shards, rows) for position in range(shards)]
    assert [row for part in parts for row in part] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(layouts(), st.integers(0, 100_000))
def test_more_rows_a_shard_than_declared_are_refused(layout: Layout, rows: int) -> None:
    shards = len(layout.shards_of_parquet(0))
    largest = max(len(layout.rows_of_shard(position, shards, rows)) for position in range(shards))
    if largest > layout.rows_per_shard:
        with pytest.raises(LayoutError, match="rows_per_shard"):
            layout.check_rows(0, rows)
    else:
        layout.check_rows(0, rows)


def test_the_declared_counts_of_both_datasets() -> None:
    assert (LAION400M.layout.parquet_files, LAION400M.layout.shards, LAION400M.layout.embedding_files) == (
        32,
        41_455,
        400,
    )
    assert (SAMPLE.layout.parquet_files, SAMPLE.layout.shards, SAMPLE.layout.embedding_files) == (4, 24, 6)


@pytest.mark.parametrize("layout", [LAION400M.layout, SAMPLE.layout])
def test_keys_are_those_of_img2dataset_and_clip_retrieval(layout: Layout) -> None:
    digits = int(math.log10(layout.embedding_files)) + 1
    assert layout.embedding_key(layout.embedding_files - 1) == f"{layout.embedding_files - 1:0{digits}d}"
    assert layout.shard_key(7) == "00007"
    assert layout.sample_key(7, 42) == "000070042"


@pytest.mark.parametrize("counts", [(0, 5, 1, 1), (6, 5, 1, 1), (1, 5, 6, 1), (1, 100_001, 1, 1), (1, 5, 1, 10_001)])
def test_impossible_layouts_are_refused(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(LayoutError):
        Layout(*counts)


@pytest.mark.parametrize("wrong", [1.0, True, "1", None, float("nan")])
def test_counts_that_are_not_integers_are_refused(wrong: Any) -> None:
    for place in range(4):
        counts = [2, 5, 2, 10]
        counts[place] = wrong
        with pytest.raises(LayoutError, match="it must be an integer"):
            Layout(*counts)


@st.composite
def subsets(draw: st.DrawFn) -> tuple[Layout, Layout]:
    """A layout, and a subset of its parquet files."""
    whole = draw(layouts())
    first = draw(st.integers(0, whole.parquet_files - 1))
    return whole, replace(whole, window=(first, draw(st.integers(first + 1, whole.parquet_files))))


@given(subsets())
def test_subset_has_each_shard_of_its_parquet_files_once(pair: tuple[Layout, Layout]) -> None:
    whole, subset = pair
    shards = [shard for parquet in subset.parquet_numbers for shard in whole.shards_of_parquet(parquet)]
    assert list(subset.shard_numbers) == shards
    assert [shard for number in subset.embedding_numbers for shard in subset.shards_of_embedding(number)] == shards
    for number in list(subset.embedding_numbers)[1:-1]:
        assert subset.shards_of_embedding(number) == whole.shards_of_embedding(number)


def test_a_sixteenth_of_laion400m_ends_where_an_embedding_file_ends() -> None:
    layout = LAION400M.subset(range(0, 2)).layout
    counts = (len(layout.parquet_numbers), len(layout.shard_numbers), len(layout.embedding_numbers))
    assert counts == (2, 2_590, 25)
    assert layout.shards_of_embedding(24) == LAION400M.layout.shards_of_embedding(24)


@pytest.mark.parametrize("window", [(0, 0), (-1, 2), (3, 2), (0, 33)])
def test_a_window_outside_of_the_dataset_is_refused(window: tuple[int, int]) -> None:
    with pytest.raises(LayoutError, match=r"0\.\.31"):
        replace(LAION400M.layout, window=window)


def test_a_subset_of_a_subset_is_refused() -> None:
    with pytest.raises(LayoutError, match="subset of laion400m"):
        LAION400M.subset(range(0, 4)).subset(range(0, 1))
