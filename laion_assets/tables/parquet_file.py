"""A parquet file, decoded within limits: its page headers are checked before its pages are decoded.

Use `open_parquet` of `parquet_process.py`, which decodes in a child process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow as pa

from laion_assets.errors import SourceError
from laion_assets.tables.column_rules import ColumnRules
from laion_assets.tables.parquet_columns import find_wanted_columns, is_text
from laion_assets.tables.parquet_pages import FIX, RefusedParquetError, read_footer, read_page_headers
from laion_assets.tables.table_limits import TableLimits

BATCH_ROWS = 10_000
BATCH_BYTES = 64 << 20
"""Approximate maximum size of one column in a batch. If values are long, a batch has fewer rows."""
_NUMBER_BYTES = 16


class ParquetInput:
    """An open parquet file. `columns` has the file's column for each wanted or kept column, `rows` is as in the footer.

    `types` has the type of each column of the file, by name and in their order. If `rules` is None, columns are not
    looked for.
    """

    def __init__(self, file: IO[bytes], source_file: str, limits: TableLimits, rules: ColumnRules | None) -> None:
        """Read the footer. Raises SourceError naming the file, and the column if one is at fault."""
        import pyarrow.parquet as pq

        self._source_file, self._limits = source_file, limits
        self._file = _LoadedFile(file, source_file)
        with self._name_file():
            self.footer = read_footer(self._file)
            self.size = self._file.seek(0, 2)
            self._parquet = pq.ParquetFile(self._file)
            schema = self._parquet.schema_arrow
        self.rows: int = self._parquet.metadata.num_rows
        self.types = [(field.name, str(field.type)) for field in schema]
        self.columns = {} if rules is None else find_wanted_columns(schema, source_file, rules)
        self._texts = {name for name in self.columns.values() if is_text(schema.field(name).type)}
        self._leaves = {self._parquet.schema.column(leaf).path: leaf for leaf in range(len(self._parquet.schema))}
        self._readers: dict[frozenset[str], Any] = {}

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows of the wanted columns, texts as dictionaries. Raises SourceError naming the file."""
        names = sorted(set(self.columns.values()))
        read = 0
        with self._name_file():
            for group in range(self._parquet.num_row_groups):
                rows, dictionaries = self._load_group(group, names)
                reader = self._reader_for(dictionaries)
                for batch in reader.iter_batches(rows, [group], names, use_threads=False):
                    read += batch.num_rows
                    yield batch
            if read != self.rows:
                raise RefusedParquetError(f"it has {read:,} rows, but its footer says {self.rows:,}")

    def _reader_for(self, dictionaries: frozenset[str]) -> Any:
        """Return a ParquetFile that reads the given columns as dictionaries."""
        import pyarrow.parquet as pq

        if dictionaries not in self._readers:
            self._readers[dictionaries] = pq.ParquetFile(
                self._file, metadata=self._parquet.metadata, read_dictionary=sorted(dictionaries)
            )
        return self._readers[dictionaries]

    def _load_group(self, group: int, names: list[str]) -> tuple[int, frozenset[str]]:
        """Load the columns of a row group and check their pages.

        Returns the number of rows to decode at once, and the columns to read as dictionaries, because they repeat long
        values. pyarrow cannot read a column as a dictionary if one of its pages has delta-encoded strings.
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
                raise RefusedParquetError(f"column {name} is outside of the file")
            if meta.num_values != of_group.num_rows:
                raise RefusedParquetError(f"column {name} has {meta.num_values:,} of {of_group.num_rows:,} rows")
            chunk = self._file.load(start, length)
            pages = list(read_page_headers(chunk, meta, BATCH_BYTES // BATCH_ROWS + 1, self._limits.max_page_bytes))
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
    def _name_file(self) -> Iterator[None]:
        """Convert errors of the reader to SourceError with the name of the file."""
        try:
            yield
        except (RefusedParquetError, pa.ArrowException, OSError, ValueError, OverflowError) as error:
            fix = error.fix if isinstance(error, RefusedParquetError) else FIX
            raise SourceError(f"{self._source_file} is not a readable parquet file: {error}. {fix}.") from error


class _LoadedFile:
    """The file object for pyarrow. `chunks` (content by start) are in memory: pyarrow reads the checked bytes."""

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
        """Read the next bytes, without a copy if they are in a chunk."""
        for start, chunk in self.chunks.items():
            if start <= self._position < start + len(chunk) and 0 <= size <= start + len(chunk) - self._position:
                found: bytes | memoryview = chunk[self._position - start : self._position - start + size]
                break
        else:
            found = self._read_at(self._position, size)
        self._position += len(found)
        return found

    def _read_at(self, position: int, size: int) -> bytes:
        """Read a piece of the file. Raises SourceError naming the file if the network or the disk fails."""
        try:
            self._file.seek(position)
            return self._file.read(size)
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise SourceError(f"Cannot read {self._source_file} at byte {position:,}: {reason}.") from error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        self._position = self._file.seek(offset, whence) if whence == 2 else offset + whence * self._position
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return False."""
        return False

    def close(self) -> None:
        """Do nothing: the caller closes the file."""
