"""Small parquet files that expand to gigabytes or overflow the reader's stack are refused or counted."""

import io
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.identity import Positions
from laion_assets.errors import SourceError
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables import table_limits
from laion_assets.tables.column_rules import ColumnRules
from laion_assets.tables.columns import MARK
from laion_assets.tables.table_limits import TableLimits
from laion_assets.tables.thrift_compact import CompactReader, ThriftError
from laion_assets_tests.stages.dedup_parquet.tables import ONE

_READ = """
import collections, json, resource, sys
from laion_assets.errors import SourceError
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.identity import Positions
from laion_assets.tables.parquet_process import stop_idle_processes
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
import pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reasons, error = collections.Counter(), None
try:
    with open(sys.argv[1], "rb") as file:
        positions = Positions(Layout(1, 1, 1, 100), [0])
        for batch in read_parquet_rows(file, "bomb.parquet", DedupSettings(), positions):
            reasons.update(str(reason) for reason in batch.column("reason").to_pylist())
except SourceError as problem:
    error = str(problem)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
stop_idle_processes()
decoding = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
print(json.dumps({"reasons": reasons, "error": error, "grown_mib": grown, "decoding_mib": decoding}))
"""


def read_apart(content: bytes, folder: Path) -> dict[str, Any]:
    """What a process of its own reads: reasons of rows and marks, the error, how many MiB it grew by, and how many
    the process that it decodes in had at most.
    """
    path = folder / "bomb.parquet"
    path.write_bytes(content)
    done = subprocess.run([sys.executable, "-c", _READ, str(path)], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2_000:]
    return dict(json.loads(done.stdout))


def stored(columns: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, write_statistics=False, **options)
    return buffer.getvalue()


def read(content: bytes, limits: TableLimits | None = None) -> list[dict[str, Any]]:
    settings = DedupSettings(limits=limits or TableLimits())
    batches = read_parquet_rows(io.BytesIO(content), "p.parquet", settings, Positions(ONE, [0]))
    return [row for batch in batches for row in batch.to_pylist()]


def repeated(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))


def test_dictionary_bomb_is_one_reject_in_bounded_memory(tmp_path: Path) -> None:
    rows, size = 10_000, 1_000_000
    columns = {"URL": repeated("http://a.test/1", rows), "TEXT": repeated("x" * size, rows)}
    content = stored(columns, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30)
    assert len(content) < 1_000
    found = read_apart(content, tmp_path)
    assert found["reasons"] == {"expansion_limit": 2}, "one reject, and the file's mark"
    assert found["grown_mib"] < 50
    assert found["decoding_mib"] < 400


def test_schema_nested_100000_deep_is_refused(tmp_path: Path) -> None:
    found = read_apart(nested_footer(100_000), tmp_path)
    assert "bomb.parquet" in found["error"]
    assert "nested more than 64 levels deep" in found["error"]


def test_values_longer_than_a_record_are_rejected() -> None:
    texts = ["x" * 1_500_000, "fine", "y" * 2_000_000, "fine"]
    urls = [f"http://a.test/{number}" for number in range(4)]
    for options in ({}, {"use_dictionary": False}, {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}):
        rows = sorted(read(stored({"URL": urls, "TEXT": texts}, **options)), key=lambda row: row["source_row"])
        reasons = [row["reason"] for row in rows if row["kind"] != MARK]
        assert reasons == ["record_too_long", None, "record_too_long", None]


def test_long_values_are_decoded_in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    from laion_assets.tables import parquet_file

    monkeypatch.setattr(parquet_file, "BATCH_BYTES", 100_000)
    content = stored(
        {"URL": ["http://a.test/"] * 200, "TEXT": [f"{n:05}" * 200 for n in range(200)]}, use_dictionary=False
    )
    parquet = parquet_file.ParquetInput(io.BytesIO(content), "p.parquet", TableLimits(), ColumnRules())
    sizes = [batch.num_rows for batch in parquet.batches()]
    assert sum(sizes) == 200
    assert 50 < max(sizes) <= 100


def test_page_over_the_limit_is_refused_before_it_is_decompressed() -> None:
    content = stored({"URL": ["http://a.test/"], "TEXT": ["x" * (2 << 20)]}, compression="zstd", use_dictionary=False)
    assert read(content)
    with pytest.raises(SourceError, match=r"p\.parquet.*column TEXT has a page of 2,\d{3},\d{3} bytes.*max_page_bytes"):
        read(content, TableLimits(max_page_bytes=1 << 20))


def test_empty_rows_count_towards_the_expansion_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_limits, "ALWAYS_DECODED_BYTES", 1 << 20)
    content = stored({"URL": pa.nulls(100_000, pa.string()), "TEXT": pa.nulls(100_000, pa.string())})
    rows = read(content)
    assert [row["reason"] for row in rows if row["kind"] == MARK] == ["expansion_limit"]
    last = max((row for row in rows if row["kind"] != MARK), key=lambda row: row["source_row"])
    assert last["reason"] == "expansion_limit"
    assert json.loads(last["raw"]) == {"rows_not_read": 100_000 - (last["source_row"] - 1)}
    assert sum(row["reason"] == "url_missing" for row in rows) == last["source_row"] - 1 == 10_000


@pytest.mark.parametrize("encoding", ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"])
@pytest.mark.parametrize("options", [{"compression": "none"}, {"compression": "none", "data_page_version": "2.0"}])
def test_page_with_more_lengths_than_values_is_refused(tmp_path: Path, encoding: str, options: dict[str, Any]) -> None:
    columns = {"URL": [f"http://a.test/{number}" for number in range(300)], "TEXT": ["x"] * 300}
    content = stored(columns, use_dictionary=False, column_encoding={"URL": encoding, "TEXT": "PLAIN"}, **options)
    assert len(read(content)) == 301
    head = b"\x80\x01\x04"  # blocks of 128 values in 4 parts, then the number of values
    assert content.count(head + b"\xac\x02") >= 1
    claimed = content.replace(head + b"\xac\x02", head + b"\xff\x7f", 1)
    found = read_apart(claimed, tmp_path)
    assert "bomb.parquet is not a readable parquet file" in found["error"]


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"compression": "zstd"}])
def test_pages_of_nulls_in_delta_encodings_are_read(options: dict[str, Any]) -> None:
    encodings = {"URL": "DELTA_BYTE_ARRAY", "TEXT": "DELTA_LENGTH_BYTE_ARRAY", "WIDTH": "DELTA_BINARY_PACKED"}
    urls = [f"http://a.test/{number}" for number in range(3)]
    columns = {"URL": urls, "TEXT": pa.nulls(3, pa.string()), "WIDTH": pa.nulls(3, pa.int64())}
    rows = read(stored(columns, use_dictionary=False, column_encoding=encodings, **options))
    assert [row["TEXT"] for row in rows if row["kind"] != MARK] == [None] * 3


def test_footer_that_disagrees_with_the_pages_is_refused() -> None:
    content = stored({"URL": ["http://a.test/"] * 9, "TEXT": ["x"] * 9}, compression="none")
    footer = content[-8 - int.from_bytes(content[-8:-4], "little") : -8]
    other = footer.replace(b"\x16\x12", b"\x16\x10")  # 9 rows, values, ... in zigzag
    assert other != footer
    with pytest.raises(SourceError, match=r"p\.parquet is not a readable parquet file"):
        read(content.replace(footer, other))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not end in a parquet footer"),
        (b"<html>not found</html>", "does not end in a parquet footer"),
        (b"PAR1" + b"\0" * 20 + struct.pack("<I", 4) + b"PARE", "encrypted"),
        (b"PAR1" + struct.pack("<I", 1 << 30) + b"PAR1", "longer than the file"),
        (b"PAR1" + b"\x19\xfc\xff\xff\xff\xff\x7f" + struct.pack("<I", 7) + b"PAR1", "footer is damaged"),
    ],
)
def test_files_that_are_not_parquet_are_refused_with_name_and_advice(content: bytes, message: str) -> None:
    with pytest.raises(
        SourceError, match=rf"p\.parquet is not a readable parquet file: .*{message}.*Fetch it again, or remove"
    ):
        read(content)


def test_read_error_is_not_reported_as_damage() -> None:
    content = stored(
        {"URL": ["http://a.test/"] * 9, "TEXT": ["x" * 100_000] * 9}, use_dictionary=False, compression="none"
    )

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() < 100_000:
                raise TimeoutError("the network is gone")
            return super().read(size)

    with pytest.raises(SourceError, match=r"Cannot read p\.parquet at byte \d+: the network is gone\."):
        list(read_parquet_rows(Failing(content), "p.parquet", DedupSettings(), Positions(ONE, [0])))


def test_file_with_one_damaged_byte_is_read_or_refused(tmp_path: Path) -> None:
    """Runs in a separate process, because the reader is C++."""
    columns = {"URL": [f"http://a.test/{n}" for n in range(50)], "TEXT": ["x", "y"] * 25, "WIDTH": list(range(50))}
    content = stored(columns, compression="none")
    for number in range(0, len(content), 211):
        changed = bytearray(content)
        changed[number] ^= 0x55
        (tmp_path / f"{number}.parquet").write_bytes(changed)
    script = (
        _READ.split("before =")[0]
        + """
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            list(read_parquet_rows(file, path, DedupSettings(), Positions(Layout(1, 1, 1, 100), [0])))
    except SourceError as problem:
        assert path in str(problem)
"""
    )
    paths = sorted(str(path) for path in tmp_path.glob("*.parquet"))
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2_000:]


def test_thrift_structs_are_limited_in_depth_and_length() -> None:
    assert CompactReader(b"\x15\x02\x18\x03abc\x19\x25\x02\x04\x00").read_struct() == {1: 1, 2: b"abc", 3: [1, 2]}
    for data in (
        b"",
        b"\x15",
        b"\x1c" * 1_000,
        b"\x19\xf5\xff\xff\xff\x07",
        b"\x18\xff\xff\x03a",
        b"\x15" + b"\xff" * 20,
    ):
        with pytest.raises(ThriftError):
            CompactReader(data).read_struct()


def nested_footer(depth: int) -> bytes:
    """Return a parquet file without rows, with a deeply nested schema."""

    def varint(number: int) -> bytes:
        return (b"" if number < 128 else bytes([number & 127 | 128])) + (
            bytes([number]) if number < 128 else varint(number >> 7)
        )

    group = b"\x35\x02\x18\x01g\x15\x02\x00"
    leaf = b"\x15\x02\x25\x02\x18\x01x\x00"
    schema = b"\x19\xfc" + varint(depth + 1) + group * depth + leaf
    footer = b"\x15\x02" + schema + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"
