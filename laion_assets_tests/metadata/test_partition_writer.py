"""What a task does with a partition's sorted rows, without Spark: all or nothing."""

import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from laion_assets.commit.store import Store
from laion_assets.errors import CommitError, LayoutError
from laion_assets.layout import Layout
from laion_assets.metadata.csv_rows import rows_of_file
from laion_assets.metadata.identity import Positions
from laion_assets.metadata.partition_writer import PartitionWriter
from laion_assets.metadata.settings import MetadataSettings
from laion_assets.metadata.winner import ORDER, first_of_each
from laion_assets_tests.metadata.tables import row, table

LAYOUT = Layout(parquet_files=1, shards=3, embedding_files=1, rows_per_shard=20)


def sorted_rows(count: int) -> pa.RecordBatch:
    """`count` rows, every third one twice, and one reject, as Spark would hand them over."""
    rows = [row(URL=f"http://a.test/{number}", SAMPLE_ID=str(number)) for number in range(count)]
    content = table(rows + rows[::3]) + b"too|few\n"
    batches = list(rows_of_file(io.BytesIO(content), "f.csv", MetadataSettings(), Positions(LAYOUT, [0])))
    order = [("place", "ascending"), *ORDER]
    return pa.Table.from_batches(batches).sort_by(order).combine_chunks().to_batches()[0]


@pytest.fixture
def writer(tmp_path: Path) -> PartitionWriter:
    """A writer of the only partition of a small layout."""
    return PartitionWriter(Store(str(tmp_path / "store")), LAYOUT, (0,), "settings", {0: "inputs"})


def test_batches_may_end_anywhere(writer: PartitionWriter) -> None:
    batch = sorted_rows(30)
    whole = writer.write(0, [batch])
    assert (whole.counts.rows_in, whole.counts.rows_out) == (41, 30)
    assert whole.counts.reasons == {"duplicate": 10, "wrong_token_count": 1}
    for size in (1, 2, 7):
        again = writer.write(0, [batch.slice(start, size) for start in range(0, batch.num_rows, size)])
        assert again.content == whole.content


def test_a_task_that_dies_midway_leaves_nothing(writer: PartitionWriter, tmp_path: Path) -> None:
    def dying() -> Iterator[pa.RecordBatch]:
        yield sorted_rows(30).slice(0, 10)
        raise OSError("the executor is gone")

    with pytest.raises(OSError, match="executor"):
        writer.write(0, dying())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert writer.write(0, [sorted_rows(30)]).counts.rows_out == 30


def test_too_many_rows_leave_nothing(writer: PartitionWriter, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="61 rows for 3 shards: 21 rows a shard"):
        writer.write(0, [sorted_rows(61)])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_rows_of_another_partition_are_refused(writer: PartitionWriter) -> None:
    batch = sorted_rows(5)
    others = [pa.array([1] * batch.num_rows, pa.int32()), *batch.columns[1:]]
    foreign = pa.RecordBatch.from_arrays(others, schema=batch.schema)
    with pytest.raises(CommitError, match="another partition"):
        writer.write(0, [foreign])


def test_the_first_of_each_place_is_seen_across_batches() -> None:
    places = pa.array(["a", "a", "b", "c", "c"])
    assert first_of_each(places, None).to_pylist() == [True, False, True, True, False]
    assert first_of_each(places, "a").to_pylist() == [False, False, True, True, False]
    assert first_of_each(places.slice(2), "a").to_pylist() == [True, True, False]
