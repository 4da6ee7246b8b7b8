"""A parquet file, opened and decoded within bounds: its page headers are checked before its pages are decoded.

Use `open_parquet` of `parquet_process.py`, which does this in a process of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa

from laion_assets.errors import SourceError
from laion_assets.tables.parquet_columns import is_text, wanted_columns
from laion_assets.tables.parquet_pages import FIX, RefusedParquetError, footer_of, pages_of
from laion_assets.tables.table_limits import TableLimits

BATCH_ROWS = 10_000
BATCH_BYTES = 64 << 20
"""Bytes of one column in a batch, at most about; fewer rows are decoded at once where values are long."""
_NUMBER_BYTES = 16


class ParquetInput:
    """One open parquet file: `columns` is wanted column -> the file's column, `rows` what the footer says."""

    def __init__(self, file: IO[bytes], source_file: str, limits: TableLimits) -> None:
        """Read the footer. Raises SourceError naming the file, and the column where it is one."""
        import pyarrow.parquet as pq

        self._source_file, self._limits = source_file, limits
        self._file = _LoadedFile(file, source_file)
        with self._refusing():
            self.footer = footer_of(self._file)
            self.size = self._file.seek(0, 2)
            self._parquet = pq.ParquetFile(self._file)
            schema = self._parquet.schema_arrow
        self.rows: int = self._parquet.metadata.num_rows
        self.columns = wanted_columns(schema, source_file)
        self._texts = {name for name in self.columns.values() if is_text(schema.field(name).type)}
        self._leaves = {self._parquet.schema.column(leaf).path: leaf for leaf in range(len(self._parquet.schema))}
        self._readers: dict[frozenset[str], Any] = {}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows of the wanted columns, texts as dictionaries. Raises SourceError naming the file."""
        names = sorted(set(self.columns.values()))
        read = 0
        with self._refusing():
            for group in range(self._parquet.num_row_groups):
                rows, dictionaries = self._load(group, names)
                reader = self._reader(dictionaries)
                for batch in reader.iter_batches(rows, [group], names, use_threads=False):
                    read += batch.num_rows
                    yield batch
            if read != self.rows:
                raise RefusedParquetError(f"it has {read:,} rows, and its footer says {self.rows:,}")

    def _reader(self, dictionaries: frozenset[str]) -> Any:
        """A ParquetFile that reads these columns as dictionaries."""
        import pyarrow.parquet as pq

        if dictionaries not in self._readers:
            self._readers[dictionaries] = pq.ParquetFile(
                self._file, metadata=self._parquet.metadata, read_dictionary=sorted(dictionaries)
            )
        return self._readers[dictionaries]

    def _load(self, group: int, names: list[str]) -> tuple[int, frozenset[str]]:
        """Load the columns of a row group and check their pages: how many rows to decode at once, and which columns
        as dictionaries, for they repeat long values.

        pyarrow cannot read a column as a dictionary if a page of it has delta-encoded strings.
        """
        self._file.chunks = {}
        rows, dictionaries = BATCH_ROWS, set()
        of_group = self._parquet.metadata.row_group(group)
        for name in names:
            meta = of_group.column(self._leaves[name])
            start, length = meta.data_page_offset, meta.total_compressed_size
            if meta.has_dictionary_page and 0 < (meta.dictionary_page_offset or 0) < start:
                start = meta.dictionary_page_offset
            if start < 0 or length < 0 or start + length > self.size:
                raise RefusedParquetError(f"column {name} lies outside of the file")
            if meta.num_values != of_group.num_rows:
                raise RefusedParquetError(f"column {name} has {meta.num_values:,} of {of_group.num_rows:,} rows")
            chunk = self._file.load(start, length)
            pages = list(pages_of(chunk, meta, BATCH_BYTES // BATCH_ROWS + 1, self._limits.max_page_bytes))
            widest: float = self._parquet.schema.column(self._leaves[name]).length or _NUMBER_BYTES
            if meta.physical_type == "BYTE_ARRAY":
                widest = max((page.row_bytes for page in pages if not page.is_dictionary), default=0)
                longest = max((page.longest for page in pages), default=0)
                if name not in self._texts or any(page.is_delta for page in pages):
                    widest = max(widest, longest)
                elif longest * BATCH_ROWS > BATCH_BYTES:
                    dictionaries.add(name)
            rows = min(rows, max(int(BATCH_BYTES / max(widest, 1)), 1))
        return rows, frozenset(dictionaries)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Name the file in what its reader raises."""
        try:
            yield
        except (RefusedParquetError, pa.ArrowException, OSError, ValueError, OverflowError) as error:
            fix = error.fix if isinstance(error, RefusedParquetError) else FIX
            raise SourceError(f"{self._source_file} is not a readable parquet file ({error}): {fix}.") from error


class _LoadedFile:
    """A file that pyarrow reads; its `chunks` (start -> content) come from memory: what was checked is what is read."""

    closed = False

    def __init__(self, file: IO[bytes], source_file: str) -> None:
        self._file, self._source_file = file, source_file
        self._position = 0
        self.chunks: dict[int, memoryview] = {}

    def load(self, start: int, length: int) -> memoryview:
        """Read a part of the file and keep it in `chunks`."""
        self.chunks[start] = memoryview(self._read_at(start, length))
        return self.chunks[start]

    def read(self, size: int = -1) -> bytes | memoryview:
        """The next bytes; those of a chunk are not copied."""
        for start, chunk in self.chunks.items():
            if start <= self._position < start + len(chunk) and 0 <= size <= start + len(chunk) - self._position:
                found: bytes | memoryview = chunk[self._position - start : self._position - start + size]
                break
        else:
            found = self._read_at(self._position, size)
        self._position += len(found)
        return found

    def _read_at(self, position: int, size: int) -> bytes:
        """Read the file itself. Raises SourceError naming it: a network or a disk failed, the content may be fine."""
        try:
            self._file.seek(position)
            return self._file.read(size)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise SourceError(f"{self._source_file} cannot be read at byte {position:,}: {reason}.") from error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        self._position = self._file.seek(offset, whence) if whence == 2 else offset + whence * self._position
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False

    def close(self) -> None:
        """Leave the file to who opened it."""
