"""Gaps in an asset are filled with few runs."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from laion_assets.dataset.built_in import LAION400M
from laion_assets.orchestration.partitions import covering_ranges
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.registry import find_stage

numbers = st.sets(st.integers(0, 5_000), max_size=60).map(sorted)


@given(numbers, st.integers(1, 1_500))
def test_ranges_contain_every_number_once_within_the_maximum_width(found: list[int], width: int) -> None:
    ranges = covering_ranges(found, width)
    assert all(first in found and last in found and last - first < width for first, last in ranges)
    assert [sum(first <= number <= last for first, last in ranges) for number in found] == [1] * len(found)


@given(numbers, st.integers(1, 1_500))
def test_the_number_of_ranges_is_minimal(found: list[int], width: int) -> None:
    """The first numbers of the ranges lie at least `width` apart, so no range could hold two of them."""
    firsts = [first for first, _ in covering_ranges(found, width)]
    assert all(later - earlier >= width for earlier, later in itertools.pairwise(firsts))


def test_a_thousand_scattered_shards_of_laion400m_take_at_most_fifty_runs() -> None:
    shards = LAION400M.layout.shards
    width = find_stage(IMAGE_SHARDS).run_size(LAION400M)
    for seed in range(20):
        holes = sorted(random.Random(seed).sample(range(shards), 1_000))
        assert len(covering_ranges(holes, width)) <= 42
    assert len(covering_ranges(list(range(0, 2_000, 2)), width)) == 2
