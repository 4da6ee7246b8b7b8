"""The metadata of an index's ids, read one row group at a time from files that are verified first.

Hashing 400 files of 150 MB before the first result would take minutes. So a file is verified when it is first opened,
by its size and the sha256 of its parquet footer, which has offset, size and statistics of every column chunk. Each row
that is returned is verified by its uid, the md5 of its url and caption. This does not detect a changed value of another
column that leaves size and footer unchanged; the asset check and `disagreement(hashes=True)` read all bytes.
"""

import bisect
from typing import Any

from laion_assets.errors import IntegrityError
from laion_assets.stages.knn_indices.details import IndexDetails, footer_sha256
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.manifest import WHOLE, Manifest, manifest_path
from laion_assets.store.store import Store

_OPEN_PARQUETS = 64
_AGAIN = f"Remove {manifest_path(KNN_INDICES, WHOLE)} below the root and materialize knn_indices again."


class MetadataRows:
    """The rows of an index's metadata files by id. Files are opened when first needed; call `close` at the end."""

    def __init__(self, store: Store, manifest: Manifest, details: IndexDetails) -> None:
        self._store = store
        self._sizes = {entry.path: entry.size for entry in manifest.files}
        self._details = details
        self._starts = [0]
        for rows in details.rows:
            self._starts.append(self._starts[-1] + rows)
        self._open: dict[int, tuple[Any, list[int]]] = {}

    def fields(self, row: int) -> dict[str, Any]:
        """Read the metadata of one id. Reads a single row group.

        Raises IntegrityError naming the file if it was altered since the commit, or if the row's uid does not match its
        url and caption.
        """
        import pyarrow as pa

        from laion_assets.dataset.identity import compute_uid

        file = bisect.bisect_right(self._starts, row) - 1
        if not 0 <= file < len(self._details.metadata):
            raise IntegrityError(
                f"The index returned the id {row}, but there are only {self._starts[-1]:,} rows. {_AGAIN}"
            )
        where = self._store.address(self._details.metadata[file])
        inside = row - self._starts[file]
        try:
            parquet, groups = self._open_parquet(file, where)
            group = bisect.bisect_right(groups, inside) - 1
            found: dict[str, Any] = parquet.read_row_group(group).slice(inside - groups[group], 1).to_pylist()[0]
        except (OSError, pa.ArrowException, IndexError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # A failure of disk or network; pyarrow's own OSErrors have no errno.
            reason = " ".join(str(error).split())
            raise IntegrityError(f"{where} cannot be read for row {inside} ({reason}). {_AGAIN}") from error
        if found.get("uid") != compute_uid(found.get("url") or "", found.get("caption")):
            raise IntegrityError(
                f"Row {inside} of {where} was altered: its uid {found.get('uid')} does not match its url and caption. "
                f"{_AGAIN}"
            )
        return found

    def _open_parquet(self, file: int, where: str) -> tuple[Any, list[int]]:
        """Open a metadata file; return it with the first row number of each of its row groups."""
        import pyarrow.parquet as pq

        if file not in self._open:
            if len(self._open) >= _OPEN_PARQUETS:
                self._open.pop(next(iter(self._open)))[0].close()
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
            self._open[file] = (parquet, groups)
        return self._open[file]

    def close(self) -> None:
        """Close the files."""
        for parquet, _ in self._open.values():
            parquet.close()
        self._open.clear()
