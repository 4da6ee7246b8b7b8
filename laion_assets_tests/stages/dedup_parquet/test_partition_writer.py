"""Writer of a partition without Spark: it commits all or nothing, and always the same bytes."""

import io
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from laion_assets.dataset.identity import Positions
from laion_assets.dataset.layout import Layout
from laion_assets.errors import CommitError, InvariantError, LayoutError
from laion_assets.stages.dedup_parquet.readers.csv_rows import read_csv_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.dedup_parquet.spark.partition_writer import PartitionWriter
from laion_assets.stages.dedup_parquet.spark.sorted_runs import SortedRunBuilder
from laion_assets.store.store import Store
from laion_assets.tables.columns import EXCHANGE_SCHEMA
from laion_assets_tests.stages.dedup_parquet.tables import row, table

LAYOUT = Layout(parquet_files=1, shards=3, embedding_files=1, rows_per_shard=20)


def make_runs(count: int, run_bytes: int = 1_000_000) -> list[pa.RecordBatch]:
    """Return the runs of `count` rows, every third one duplicated, and one reject, as Spark passes them."""
    rows = [row(URL=f"http://a.test/{number}", SAMPLE_ID=str(number)) for number in range(count)]
    content = table(rows + rows[::3]) + b"too|few\n"
    builder, found = SortedRunBuilder(run_bytes), []
    for batch in read_csv_rows(io.BytesIO(content), "f.csv", DedupSettings(), Positions(LAYOUT, [0])):
        for start in range(0, batch.num_rows, 3):
            found += builder.add(batch.slice(start, 3))
    return [*found, *builder.finish()]


@pytest.fixture
def writer(tmp_path: Path) -> PartitionWriter:
    """A writer of the only partition of a small layout."""
    return PartitionWriter(Store(str(tmp_path / "store")), LAYOUT, (0,), "settings", {0: "inputs"})


def test_bytes_do_not_depend_on_size_and_order_of_the_make_runs(writer: PartitionWriter) -> None:
    whole = writer.write(0, make_runs(30))
    assert (whole.counts.rows_in, whole.counts.rows_out) == (41, 30)
    assert whole.counts.reasons == {"duplicate": 10, "wrong_token_count": 1}
    assert whole.details == {"notes": {}, "files": {"read": 1}, "left_out": {}}
    small = make_runs(30, 500)
    assert len(small) > 5
    for range_bytes in (1, 5_000, 1_000_000):
        for parts in (small, small[::-1], [pa.Table.from_batches(small).combine_chunks().to_batches()[0]]):
            again = replace(writer, range_bytes=range_bytes).write(0, parts)
            assert (again.content, again.counts, again.outputs) == (whole.content, whole.counts, whole.outputs)


def test_lost_rows_violate_the_row_count_invariant(writer: PartitionWriter) -> None:
    one, two = make_runs(30), make_runs(3)
    columns = [one[0].column("position"), two[0].column("rows"), one[0].column("rejects"), one[0].column("counts")]
    lost = pa.RecordBatch.from_arrays(columns, schema=EXCHANGE_SCHEMA)
    with pytest.raises(InvariantError):
        writer.write(0, [lost])


def test_failed_task_leaves_no_files(writer: PartitionWriter, tmp_path: Path) -> None:
    def dying() -> Iterator[pa.RecordBatch]:
        yield make_runs(30, 500)[0]
        raise OSError("the executor is gone")

    with pytest.raises(OSError, match="executor"):
        writer.write(0, dying())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert writer.write(0, make_runs(30)).counts.rows_out == 30


def test_full_disk_leaves_no_files(writer: PartitionWriter, tmp_path: Path) -> None:
    """A limit on the size of files has the effect of a full disk."""
    whole = make_runs(60)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for full_at in (1_000, 4_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (full_at, limits[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                writer.write(0, whole)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert writer.write(0, whole).counts.rows_out == 60


def test_too_many_rows_leave_nothing(writer: PartitionWriter, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="61 rows for 3 shards: 21 rows per shard"):
        writer.write(0, make_runs(61))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_rows_of_another_partition_are_refused(writer: PartitionWriter) -> None:
    (batch,) = make_runs(5)
    others = [pa.array([1], pa.int32()), *batch.columns[1:]]
    foreign = pa.RecordBatch.from_arrays(others, schema=batch.schema)
    with pytest.raises(CommitError, match="another partition"):
        writer.write(0, [foreign])
