"""Parquet files with changed bytes: each is read or refused, and never crashes this process."""

import io
import os
import random
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.identity import Positions
from laion_assets.errors import SourceError
from laion_assets.stages.dedup_parquet.readers.parquet_rows import read_parquet_rows
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables import parquet_process
from laion_assets.tables.column_rules import ColumnRules
from laion_assets.tables.parquet_process import ParquetReader, open_parquet
from laion_assets.tables.table_limits import TableLimits
from laion_assets_tests.stages.dedup_parquet.tables import ONE

ROWS = 40
COLUMNS = {
    "URL": [f"http://a.test/{number}" if number % 7 else None for number in range(ROWS)],
    "TEXT": [("x", "yy", None)[number % 3] for number in range(ROWS)],
    "NSFW": pa.array(["a"] * ROWS).dictionary_encode(),
    "SAMPLE_ID": list(range(ROWS)),
    "HEIGHT": pa.array([Decimal(number).scaleb(-2) for number in range(ROWS)], pa.decimal128(9, 2)),
    "WIDTH": pa.array([number % 5 or None for number in range(ROWS)], pa.int32()),
    "similarity": [number / 100 for number in range(ROWS)],
}
ENCODINGS: dict[str, dict[str, str]] = {
    "dictionary": {},
    "plain": {"URL": "PLAIN"},
    "delta_bytes": {"URL": "DELTA_BYTE_ARRAY", "TEXT": "DELTA_BYTE_ARRAY"},
    "delta_lengths": {"URL": "DELTA_LENGTH_BYTE_ARRAY", "TEXT": "DELTA_LENGTH_BYTE_ARRAY"},
    "delta_numbers": {"WIDTH": "DELTA_BINARY_PACKED", "SAMPLE_ID": "DELTA_BINARY_PACKED"},
    "byte_stream_split": {"similarity": "BYTE_STREAM_SPLIT"},
}


def write_parquet(encoding: str, compression: str, version: str) -> bytes:
    buffer = io.BytesIO()
    encodings = ENCODINGS[encoding]
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": encodings} if encodings else {}
    pq.write_table(pa.table(COLUMNS), buffer, compression=compression, data_page_version=version, **options)
    return buffer.getvalue()


def read(content: bytes) -> int:
    batches = read_parquet_rows(io.BytesIO(content), "p.parquet", DedupSettings(), Positions(ONE, [0]))
    return sum(batch.num_rows for batch in batches)


def read_message(content: bytes) -> str | None:
    """Return the message of the refusal, None if the file is read."""
    try:
        read(content)
    except SourceError as error:
        return str(error)
    return None


def change_bytes(content: bytes, seed: int) -> bytes:
    chosen = random.Random(seed)
    found = bytearray(content)
    for _ in range(chosen.choice((1, 1, 2, 8))):
        found[chosen.randrange(4, len(found) - 8)] = chosen.choice((chosen.randrange(256), 0, 0x7F, 0x80, 0xFF))
    return bytes(found)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_file_with_changed_bytes_is_read_or_refused(encoding: str, compression: str) -> None:
    for version in ("1.0", "2.0"):
        content = write_parquet(encoding, compression, version)
        assert read(content) == ROWS + 1
        messages = [read_message(change_bytes(content, seed)) for seed in range(10)]
        assert all(message is None or message.startswith("p.parquet") for message in messages)


def test_columns_of_unequal_length_are_refused() -> None:
    """After a changed bit, a page has 17 values and the other columns 25. pyarrow would read beyond its memory."""
    buffer = io.BytesIO()
    columns = {"URL": [f"http://a.test/{number}" for number in range(25)], "TEXT": ["abcd"] * 25}
    pq.write_table(pa.table(columns), buffer, compression="none", use_dictionary=False)
    content = buffer.getvalue()
    levels = b"\x02\0\0\0\x32\x01"  # 2 bytes: 25 times level 1
    assert content.count(levels) == 2
    with pytest.raises(SourceError, match=r"p\.parquet is not a readable parquet file"):
        read(content.replace(levels, b"\x02\0\0\0\x22\x01", 1))


def test_file_that_crashes_its_process_is_refused_and_the_next_file_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = write_parquet("plain", "none", "1.0")
    answer = ParquetReader._receive_answer

    def killed(reader: ParquetReader, *expected: int) -> Any:
        os.kill(reader._process._process.pid, signal.SIGSEGV)
        return answer(reader, *expected)

    with monkeypatch.context() as patch:
        patch.setattr(ParquetReader, "_receive_answer", killed)
        with pytest.raises(SourceError, match=r"p\.parquet is not a readable.*process .* ended with signal"):
            read(content)
    assert read(content) == ROWS + 1


def test_one_process_reads_several_files_and_ends_on_request() -> None:
    content = write_parquet("plain", "none", "1.0")
    parquet_process.stop_idle_processes()
    pids = set()
    for _ in range(3):
        with open_parquet(io.BytesIO(content), "p.parquet", TableLimits(), ColumnRules()) as parquet:
            pids.add(parquet._process._process.pid)
            assert parquet.rows == ROWS
        assert read(content) == ROWS + 1
        with pytest.raises(SourceError):
            read(b"<html>not found</html>")
    assert len(pids) == 1
    parquet_process.stop_idle_processes()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
