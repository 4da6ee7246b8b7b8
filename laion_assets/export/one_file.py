"""An export of few rows as one local file, for the search service. Hidden rows are never in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import IncompleteError
from laion_assets.export.list_files import write_list
from laion_assets.export.recipe import describe_recipe, digest_of
from laion_assets.export.request import NPY, WEBDATASET, ExportRequest
from laion_assets.export.rows.ordered_rows import DatasetOrder, OrderedRows, SimilarityOrder
from laion_assets.export.rows.search_results import SearchResults
from laion_assets.export.rows.selection import select_rows
from laion_assets.export.rows.shard_rows import ShardRows
from laion_assets.export.rows.uid_list import UidList, parse_uids
from laion_assets.export.rows.uid_shards import shards_of_uids
from laion_assets.export.shard_copy import SUFFIXES, write_shard
from laion_assets.export.uid_array import write_uid_array

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class FoundRow:
    """A row of a search: uid, shard, and cosine similarity to the query."""

    uid: str
    shard: ShardNumber
    similarity: float


@dataclass(frozen=True)
class OneFile:
    """A written file: its number of rows, and the digest of its recipe. Equal digests stand for equal bytes."""

    rows: int
    digest: str


def export_found(dataset: Dataset, found: Sequence[FoundRow], file_format: str, path: Path) -> OneFile:
    """Write the rows of a search, nearest first, to `path`; webdataset is one tar.

    Rows that are no longer in their shard are left out. Raises IntegrityError for a damaged shard.
    """
    import numpy as np

    raw = parse_uids([row.uid for row in found], "row", 0)
    distinct, first = np.unique(raw, return_index=True)
    similarities = np.asarray([row.similarity for row in found], np.float32)[first]
    uids = UidList(distinct, len(raw), np.zeros(len(distinct), bool))
    shards = frozenset(row.shard for row in found)
    results = SearchResults(uids, first, similarities, shards, "", "")
    return _export(dataset, sorted(shards), ExportRequest(file_format), None, results, path)


def export_uids(dataset: Dataset, uids: Sequence[str], file_format: str, path: Path) -> OneFile:
    """Write the rows with these uids, in the order of the dataset, to `path`.

    Uids that no row has, or a hidden one, are left out. Raises ExportError for a malformed uid.
    """
    listed = UidList.of(parse_uids(list(uids), "uid", 0))
    shards = shards_of_uids(dataset, [uid.lower() for uid in uids])
    return _export(dataset, shards, ExportRequest(file_format), listed, None, path)


def _export(
    dataset: Dataset,
    shards: list[ShardNumber],
    request: ExportRequest,
    uids: UidList | None,
    results: SearchResults | None,
    path: Path,
) -> OneFile:
    try:
        source = ShardRows(dataset, shards)
    except IncompleteError:  # none of the shards is committed
        return OneFile(0, "")
    selection = select_rows(source, request, None, uids, results)
    rows: OrderedRows = (
        DatasetOrder(source, selection) if results is None else SimilarityOrder(source, selection, results)
    )
    recipe = describe_recipe(source, request, uids, results, rows.schema.names)
    return OneFile(_write(source, request, rows, path), digest_of(recipe))


def _write(source: ShardRows, request: ExportRequest, rows: OrderedRows, path: Path) -> int:
    """Write the file; return its number of rows."""
    if request.format == WEBDATASET:
        files = {suffix: path if suffix == ".tar" else path.with_name(path.name + suffix) for suffix in SUFFIXES}
        write_shard(source, rows, 0, len(rows), files)
        return len(rows)
    if request.format == NPY:
        return write_uid_array(path, _tables(rows, ["uid"]))
    write_list(request.format, path, rows.schema, _tables(rows, rows.schema.names), request.escape_formulas)
    return len(rows)


def _tables(rows: OrderedRows, columns: list[str]) -> "list[pa.Table]":
    return [table for _, table in rows.tables(0, len(rows), columns)]
