"""The number of rows of a dataset's files: exact if all of them were read, else estimated from the samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

_MIN_ERROR = 0.02
_ONE_PIECE_ERROR = 0.5
"""Relative error if there is nothing to compare."""


@dataclass(frozen=True)
class RowCount:
    """A number of rows with its relative error (two standard deviations), 0 if it is exact."""

    rows: int
    error: float = 0.0

    def __str__(self) -> str:
        if not self.error:
            return f"{self.rows:,} (exact)"
        digits = 10 ** max(len(str(self.rows)) - 3, 0)
        return f"about {round(self.rows / digits) * digits:,} (estimated, ± {math.ceil(self.error * 100)} %)"


@dataclass(frozen=True)
class CountedSample:
    """`rows` in the first `stored` bytes of a file of `size` bytes, and whether these are all of it.

    `row_bytes` are mean sizes of rows in parts of the sample, decoded.
    """

    rows: int
    stored: int
    size: int
    is_whole: bool
    row_bytes: tuple[float, ...] = ()


def estimate_rows(samples: Sequence[CountedSample], total_size: int, files: int) -> RowCount:
    """Estimate the rows of `files` files of `total_size` bytes in all from the samples of some of them."""
    counted = sum(sample.rows for sample in samples)
    if len(samples) == files and all(sample.is_whole for sample in samples):
        return RowCount(counted)
    stored = sum(sample.stored for sample in samples)
    if not counted or not stored:
        return RowCount(counted, _ONE_PIECE_ERROR)
    per_file = [sample.stored / sample.rows for sample in samples if sample.rows]
    spread = [
        _relative_deviation(per_file),
        _relative_deviation([each for sample in samples for each in sample.row_bytes]),
    ]
    error = max(_MIN_ERROR, 2 * max(spread)) if any(spread) else _ONE_PIECE_ERROR
    return RowCount(max(round(total_size * counted / stored), counted), min(error, 1.0))


def _relative_deviation(values: Sequence[float]) -> float:
    return pstdev(values) / fmean(values) if len(values) > 1 and fmean(values) else 0.0
