"""The metadata of an index's ids, read one row group at a time from files that are verified first.

Hashing 400 files of 150 MB before the first result would take minutes. So a file is verified when it is first opened,
by its size and the sha256 of its parquet footer, which has offset, size and statistics of every column chunk. Each row
that is returned is verified by its uid, the md5 of its url and caption. This does not detect a changed value of another
column that leaves size and footer unchanged; the asset check and `disagreement(hashes=True)` read all bytes.
"""

import bisect
import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from laion_assets.errors import IntegrityError
from laion_assets.stages.knn_indices.details import IndexDetails, footer_sha256
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.manifest import WHOLE, Manifest, manifest_path
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

MAX_OPEN_LOCAL = 512
"""Local files that stay open: all those of LAION-400M. The parsed footer of a file with 104 row groups takes 1.5 MB,
and opening the file again takes about half as long as reading a row group."""
MAX_OPEN_REMOTE = 64
"""Files of an object store that stay open: each has a buffer of several MB."""
_READERS = 8
"""Files that are read at the same time: a result of a large dataset is in any of hundreds of files."""
_AGAIN = f"Remove {manifest_path(KNN_INDICES, WHOLE)} below the root and materialize knn_indices again."


RESULT_COLUMNS = (
    "image_path",
    "caption",
    "url",
    "uid",
    "NSFW",
    "LICENSE",
    "width",
    "height",
    "original_width",
    "original_height",
    "sha256",
)
"""The columns of a result. Other columns, such as `exif`, can be large, and are read for single rows only."""


class MetadataRows:
    """The rows of an index's metadata files by id, safe for threads. Call `close` at the end.

    Files are opened when first needed. `cached_rows` rows of `rows` are kept in memory.
    """

    def __init__(self, store: Store, manifest: Manifest, details: IndexDetails, cached_rows: int = 0) -> None:
        self._store = store
        self._sizes = {entry.path: entry.size for entry in manifest.files}
        self._details = details
        self._starts = [0]
        for rows in details.rows:
            self._starts.append(self._starts[-1] + rows)
        self._open: dict[int, tuple[Any, list[int]]] = {}
        self._lock = threading.Lock()
        self._max_open = MAX_OPEN_REMOTE if store.local_root is None else MAX_OPEN_LOCAL
        self._file_locks = [threading.Lock() for _ in range(self._max_open)]
        self._cache: dict[int, dict[str, Any]] = {}
        self._cached_rows = cached_rows
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return self._starts[-1]

    def fields(self, row: int) -> dict[str, Any]:
        """Read all columns of one id. Reads a single row group. Raises IntegrityError like `rows`."""
        return self._read([row], None)[row]

    def rows(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Read the columns `RESULT_COLUMNS` of these ids, in their order. Each row group is read once.

        Raises IntegrityError naming the file if it was altered since the commit, or if a row's uid does not match its
        url and caption. The rows are shared: do not change them.
        """
        found = {row: cached for row in ids if (cached := self._cache.get(row)) is not None}
        missing = [row for row in ids if row not in found]
        self.hits += len(ids) - len(missing)
        self.misses += len(missing)
        if missing:
            read = self._read(missing, RESULT_COLUMNS)
            found.update(read)
            self._remember(read)
        return [found[row] for row in ids]

    def preload(self) -> None:
        """Read all rows into memory if `cached_rows` is at least their number."""
        if len(self) <= self._cached_rows:
            for start, end in itertools.pairwise(self._starts):
                self._remember(self._read(range(start, end), RESULT_COLUMNS))

    def _remember(self, read: dict[int, dict[str, Any]]) -> None:
        with self._lock:
            self._cache.update(read)
            excess = len(self._cache) - self._cached_rows
            for row in list(itertools.islice(self._cache, max(excess, 0))):  # the oldest ones
                del self._cache[row]

    def _read(self, ids: Sequence[int], columns: Sequence[str] | None) -> dict[int, dict[str, Any]]:
        """Read rows by id, file by file and row group by row group."""
        by_file: dict[int, list[int]] = {}
        for row in ids:
            file = bisect.bisect_right(self._starts, row) - 1
            if not 0 <= file < len(self._details.metadata):
                raise IntegrityError(
                    f"The index returned the id {row}, but there are only {self._starts[-1]:,} rows. {_AGAIN}"
                )
            by_file.setdefault(file, []).append(row)
        found: dict[int, dict[str, Any]] = {}
        if len(by_file) == 1:
            ((file, rows),) = by_file.items()
            return self._read_file(file, rows, columns)
        with ThreadPoolExecutor(min(_READERS, len(by_file) or 1)) as pool:
            for read in pool.map(lambda file: self._read_file(file, by_file[file], columns), by_file):
                found.update(read)
        return found

    def _read_file(self, file: int, ids: Sequence[int], columns: Sequence[str] | None) -> dict[int, dict[str, Any]]:
        import numpy as np
        import pyarrow as pa

        from laion_assets.dataset.identity import compute_uid

        where = self._store.address(self._details.metadata[file])
        start = self._starts[file]
        found: dict[int, dict[str, Any]] = {}
        try:
            with self._lock_of(file):
                parquet, groups = self._open_parquet(file, where)
                by_group: dict[int, list[int]] = {}
                for row in ids:
                    by_group.setdefault(bisect.bisect_right(groups, row - start) - 1, []).append(row)
                tables = {group: parquet.read_row_group(group, columns=columns) for group in by_group}
            for group, rows in by_group.items():
                inside = np.array([row - start - groups[group] for row in rows], dtype=np.int64)
                # pa.array imports pandas, which takes a second.
                chosen = pa.Array.from_buffers(pa.int64(), len(inside), [None, pa.py_buffer(inside)])
                taken = tables[group].take(chosen)
                found.update(zip(rows, taken.to_pylist(), strict=True))
        except (OSError, pa.ArrowException, IndexError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # A failure of disk or network; pyarrow's own OSErrors have no errno.
            reason = " ".join(str(error).split())
            raise IntegrityError(f"{where} cannot be read for row {ids[0] - start} ({reason}). {_AGAIN}") from error
        for row, fields in found.items():
            if fields.get("uid") != compute_uid(fields.get("url") or "", fields.get("caption")):
                raise IntegrityError(
                    f"Row {row - start} of {where} was altered: its uid {fields.get('uid')} does not match its url and "
                    f"caption. {_AGAIN}"
                )
        return found

    def tags(self) -> Iterator["pa.ChunkedArray | int"]:
        """Yield the column NSFW of each file in the order of the ids; the number of rows where a file has none."""
        for file, path in enumerate(self._details.metadata):
            where = self._store.address(path)
            with self._lock_of(file):
                parquet, groups = self._open_parquet(file, where)
                if "NSFW" in parquet.schema_arrow.names:
                    column = parquet.read(columns=["NSFW"], use_threads=False).column(0)
                else:
                    column = groups[-1]
            yield column

    def _lock_of(self, file: int) -> threading.Lock:
        """Return the lock for reading a file: it has one position, so its reads must not overlap."""
        return self._file_locks[file % len(self._file_locks)]

    def _open_parquet(self, file: int, where: str) -> tuple[Any, list[int]]:
        """Open a metadata file; return it with the first row number of each of its row groups."""
        import pyarrow.parquet as pq

        with self._lock:
            found = self._open.get(file)
        if found is None:
            path = self._details.metadata[file]
            if self._store.size(path) != self._sizes[path]:
                raise IntegrityError(
                    f"{where} was altered after the commit: it is missing or its size differs. {_AGAIN}"
                )
            opened = self._store.open(path)
            if self._details.footers and footer_sha256(opened, where) != self._details.footers[file]:
                opened.close()
                raise IntegrityError(
                    f"{where} was altered after the commit: its footer differs from the manifest. {_AGAIN}"
                )
            parquet = pq.ParquetFile(opened)
            if parquet.metadata.num_rows != self._details.rows[file]:
                raise IntegrityError(
                    f"{where} has {parquet.metadata.num_rows:,} rows, but the index lists "
                    f"{self._details.rows[file]:,}. {_AGAIN}"
                )
            groups = [0]
            for group in range(parquet.metadata.num_row_groups):
                groups.append(groups[-1] + parquet.metadata.row_group(group).num_rows)
            found = (parquet, groups)
            with self._lock:
                while len(self._open) >= self._max_open:  # closed when the last thread that reads it is done
                    del self._open[next(iter(self._open))]
                self._open[file] = found
        return found

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._open.clear()
