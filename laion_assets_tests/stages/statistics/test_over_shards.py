"""Plots over shards: every shard is in one point, sums are those of the manifests, and gaps stay gaps."""

import re
from collections.abc import Iterable

import pyarrow.compute as pc
import pytest

from laion_assets.stages.statistics.charts import shard_charts
from laion_assets.stages.statistics.over_shards import SHARDS_SCHEMA, shard_ranges, shard_table, throughput_over_time
from laion_assets.store.manifest import Counts, FileEntry, Manifest


def manifest(shard: int, good: int = 7, second: int = 0, seconds: float = 2.0, **reasons: int) -> Manifest:
    files = (FileEntry(f"image_shards/{shard:05d}.tar", 1_000 * good, "0" * 64),)
    counts = Counts(good + sum(reasons.values()), good, reasons)
    at = f"2026-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}+00:00"
    return Manifest("image_shards", f"{shard:05d}", files, counts, "s", "i", committed_at=at, seconds=seconds)


def titles(manifests: Iterable[Manifest]) -> list[str]:
    return [title for title, _ in shard_charts(shard_table(manifests))]


@pytest.mark.parametrize("count", [1, 2, 119, 120, 121, 1_000])
def test_every_shard_is_in_one_of_at_most_120_ranges(count: int) -> None:
    shards = shard_table(
        [manifest(shard, shard % 5, http_404=shard % 3, deadline=1) for shard in range(40, 40 + count)]
    )
    found = shard_ranges(shards)
    assert len(found) <= 120
    assert [part.first for part in found] == sorted({part.first for part in found})
    for name in ("rows", "images", "bytes"):
        assert sum(getattr(part, name) for part in found) == pc.sum(shards.column(name)).as_py(), name
    assert sum(part.reasons["http_404"] for part in found) == sum(shard % 3 for shard in range(40, 40 + count))
    assert all(part.rows == part.images + part.reasons.total() for part in found)


def test_shards_that_are_not_committed_leave_a_gap() -> None:
    assert [part.first for part in shard_ranges(shard_table([manifest(shard) for shard in (0, 1, 500, 1_199)]))] == [
        0,
        500,
        1_190,
    ]


def test_throughput_adds_up_to_the_images_and_is_0_in_gaps() -> None:
    seconds = [*range(0, 200, 2), *range(3_400, 3_602, 2)]
    found = throughput_over_time(shard_table([manifest(shard, 10, second) for shard, second in enumerate(seconds)]))
    width_s = found[1][0] - found[0][0]
    assert len(found) == len(seconds) // 4
    assert width_s == pytest.approx(3_600 / len(found))
    assert sum(rate * width_s for _, rate in found) == pytest.approx(10 * len(seconds))
    assert found[0][1] == pytest.approx(10 / 2, rel=0.05)
    assert found[20][1] == 0


def test_too_few_points_have_no_throughput_plot() -> None:
    assert throughput_over_time(shard_table([manifest(n, 10, n) for n in range(7)])) == []
    assert throughput_over_time(shard_table([manifest(n) for n in range(100)])) == []
    assert throughput_over_time(shard_table([])) == []
    assert throughput_over_time(shard_table([manifest(n, 10, n) for n in range(8)])) == [(0, 40 / 3.5), (3.5, 40 / 3.5)]


def test_failures_show_in_the_affected_ranges() -> None:
    hit = range(50, 60)
    shards = shard_table(
        [manifest(n, 0 if n in hit else 9, n, **({"dns_failure": 9} if n in hit else {})) for n in range(100)]
    )
    assert [part.first for part in shard_ranges(shards) if part.reasons["dns_failure"]] == list(hit)
    drawn = dict(shard_charts(shards))
    assert "dns_failure" in drawn["Failures over the shards, by reason"]
    assert all(svg.startswith("<svg") for svg in drawn.values())
    assert len(drawn) == 4


def test_more_reasons_than_colours_are_added_up_as_others() -> None:
    reasons = {f"reason_{letter}": 10 - place for place, letter in enumerate("abcdefghi")}
    (svg,) = [svg for title, svg in shard_charts(shard_table([manifest(0, **reasons)])) if "reason" in title]
    labels = [label for label in re.findall(r">([a-z_ ]+)</text>", svg) if label.startswith(("reason_", "all"))]
    assert sorted(labels) == ["all others", *(f"reason_{letter}" for letter in "abcdef")]


def test_plots_without_data_are_left_out() -> None:
    assert shard_charts(SHARDS_SCHEMA.empty_table()) == []
    assert titles([manifest(0, 0, http_404=3)]) == [
        "Failures over the shards, by reason",
        "Images per second over the shards: median, slowest to fastest",
    ]
    assert "Failures over the shards, by reason" not in titles([manifest(0), manifest(1)])
