"""The log lines of long work."""

import time

import pytest

from laion_assets.progress import Progress, duration


def test_a_line_has_the_count_the_rate_and_the_time_left() -> None:
    lines: list[str] = []
    progress = Progress(lines.append, "shards", 4, "images", every_s=0.0)
    progress._started = time.monotonic() - 10
    progress.add(1, 250)
    assert lines == ["1/4 shards (25 %), 25 images/s, 30 s left"]


def test_last_line_has_the_duration_and_the_note() -> None:
    lines: list[str] = []
    progress = Progress(lines.append, "shards", 1, every_s=60.0)
    progress._started = time.monotonic() - 4
    progress.add(note="1 was complete already")
    assert lines == ["1/1 shards (100 %), 0.2 shards/s, took 4 s, 1 was complete already"]


def test_lines_are_rate_limited_and_no_rate_is_computed_from_an_instant() -> None:
    lines: list[str] = []
    progress = Progress(lines.append, "files", 1_000, every_s=60.0)
    for _ in range(999):
        progress.add()
    assert len(lines) == 1
    assert "/s" not in lines[0]


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(0, "0 s"), (48.2, "48 s"), (200, "3 min 20 s"), (7_500, "2 h 05 min"), (274_000, "3 d 4 h")],
)
def test_durations_are_readable(seconds: float, message: str) -> None:
    assert duration(seconds) == message
