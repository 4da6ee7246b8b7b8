"""The number of rows is exact or has an honest error, and the layout fits it."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.proposed_layout import propose_layout
from laion_assets.errors import LayoutError
from laion_assets.inspection.inspection import inspect_place
from laion_assets.inspection.row_count import CountedSample, RowCount, estimate_rows
from laion_assets.inspection.table_sample import Choices


def test_files_that_were_read_as_a_whole_are_counted_exactly() -> None:
    count = estimate_rows([CountedSample(3, 30, 30, True), CountedSample(4, 40, 40, True)], 70, 2)
    assert (count.rows, count.error, str(count)) == (7, 0.0, "7 (exact)")


def test_an_estimate_has_an_error_that_covers_the_rows() -> None:
    generator = random.Random(3)
    for _ in range(50):
        files = [[generator.randrange(40, 200) for _ in range(generator.randrange(2_000, 4_000))] for _ in range(8)]
        sampled = [file[:400] for file in files[:4]]
        samples = [
            CountedSample(len(some), sum(some), 0, False, tuple(sum(some[k : k + 50]) / 50 for k in range(0, 400, 50)))
            for some in sampled
        ]
        count = estimate_rows(samples, sum(map(sum, files)), 8)
        rows = sum(map(len, files))
        assert count.rows * (1 - count.error) <= rows <= count.rows * (1 + count.error)
        assert 0.02 <= count.error < 0.5


@pytest.mark.parametrize(
    "pack", [bytes, lambda text: gzip.compress(text, 1), lambda text: pa.compress(text, "zstd", True)]
)
def test_the_rows_of_a_large_file_are_estimated(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    rows = "".join(f"http://a.test/{n * 7919 % 1_000_003}.jpg,caption {n % 977}\n" for n in range(120_000)).encode()
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "a.csv").write_bytes(pack(b"url,caption\n" + rows))
    base = Dataset("mine", "", Layout(1, 1, 1, 1), root=str(tmp_path / "data"))
    found = inspect_place(base, str(tmp_path / "pairs"), Choices(), lambda question, names: None)
    count = found.row_count
    assert 0 < count.error < 0.5
    assert count.rows * (1 - count.error) <= 120_000 <= count.rows * (1 + count.error)
    assert found.sample.accepted < 60_000


def test_an_estimate_is_shown_with_its_error() -> None:
    assert str(RowCount(1_234_567, 0.045)) == "about 1,230,000 (estimated, ± 5 %)"


@pytest.mark.parametrize(
    ("rows", "error", "shards", "files"),
    [
        (0, 0.0, 1, 1),
        (500, 0.0, 1, 1),
        (10_000, 0.0, 1, 1),
        (10_001, 0.0, 2, 1),
        (900_000, 0.0, 100, 1),
        (900_001, 0.0, 101, 2),
        (1_000_000, 0.2, 134, 2),
        (413_000_000, 0.0, 45_889, 459),
    ],
)
def test_the_layout_fits_the_rows(rows: int, error: float, shards: int, files: int) -> None:
    layout = propose_layout(rows, error)
    assert (layout.shards, layout.parquet_files, layout.embedding_files) == (shards, files, files)
    assert layout.shards * layout.rows_per_shard >= rows * (1 + error)


def test_too_many_rows_are_an_error() -> None:
    with pytest.raises(LayoutError, match="Split the files"):
        propose_layout(10**12)
