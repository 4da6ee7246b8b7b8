"""Run an export: select rows, then write them to a new folder, shard by shard."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import ExportError
from laion_assets.export.list_files import write_list
from laion_assets.export.output_folder import OutputFolder, files_of
from laion_assets.export.recipe import describe_recipe, digest_of, finished_json
from laion_assets.export.request import LIST_SUFFIXES, NPY, WEBDATASET, ExportRequest
from laion_assets.export.rows.counts import DUPLICATE, ExportCounts
from laion_assets.export.rows.ordered_rows import DatasetOrder, OrderedRows, SimilarityOrder
from laion_assets.export.rows.predicate import Predicate
from laion_assets.export.rows.search_results import SearchResults, run_search
from laion_assets.export.rows.selection import THREADS, Selection, map_in_order, select_rows
from laion_assets.export.rows.shard_rows import SEARCH_SIMILARITY, ShardRows
from laion_assets.export.rows.uid_list import UidList, read_uid_list
from laion_assets.export.shard_copy import SUFFIXES, write_shard
from laion_assets.export.uid_array import write_uid_array
from laion_assets.progress import Progress
from laion_assets.store.manifest import Manifest

_ESTIMATED_FROM_ROWS = 1_000
_NPY_HEADER_BYTES = 128
_UID_BYTES = 16
_KINDS = {WEBDATASET: "shards", NPY: "uids"}
_MAX_FILES = 100_000


def ignore(line: str) -> None:
    """Ignore a log line."""


@dataclass
class Export:
    """A planned export: the selected rows in their order, and the recipe with its digest."""

    source: ShardRows
    request: ExportRequest
    rows: OrderedRows
    counts: ExportCounts
    columns: list[str]
    recipe: dict[str, Any]
    digest: str
    selection: Selection = field(repr=False)

    @property
    def files(self) -> int:
        """The number of files, of shards for webdataset. An export without rows has one file."""
        return 1 if self.request.format == NPY else max(-(-len(self.rows) // self.request.file_rows), 1)


@dataclass(frozen=True)
class ExportReport:
    """The result of an export. `resumed` are the files or shards that an earlier run had finished."""

    digest: str
    counts: ExportCounts
    files: int
    size: int
    resumed: int
    missing_shards: int


def plan_export(dataset: Dataset, request: ExportRequest, log: Callable[[str], None] = ignore) -> Export:
    """Select the rows of a request. Nothing is written.

    Raises ExportError for an invalid request, IncompleteError without committed shards, or without an index for a
    search, IntegrityError for altered files.
    """
    source = ShardRows(dataset)
    if source.missing:
        log(
            f"{len(source.missing):,} of {len(source.missing) + len(source.shards):,} shards are not committed: their "
            "rows are not exported"
        )
    known = {each.name: each.type for each in source.schema}
    predicate = Predicate(request.where, known) if request.where else None
    uids: UidList | None = read_uid_list(request.uids) if request.uids else None
    results: SearchResults | None = run_search(dataset, request.search) if request.search else None
    columns = _columns(source, request, results)
    recipe = describe_recipe(source, request, uids, results, columns)
    selection = select_rows(source, request, predicate, uids, results, log)
    rows: OrderedRows = (
        DatasetOrder(source, selection) if results is None else SimilarityOrder(source, selection, results)
    )
    export = Export(source, request, rows, selection.counts, columns, recipe, digest_of(recipe), selection)
    if export.files > _MAX_FILES:
        raise ExportError(
            f"{len(rows):,} rows in files of {request.file_rows:,} are {export.files:,} files; the maximum is "
            f"{_MAX_FILES:,}. Raise --rows-per-shard."
        )
    return export


def write_export(
    export: Export, output: str, log: Callable[[str], None] = ignore, threads: int = THREADS
) -> ExportReport:
    """Write a planned export to a new folder or object-store URL, or finish one that was killed.

    Raises ExportError if the folder has other files or another export, IntegrityError for an altered shard, LeaseError
    while another process writes it, OSError.
    """
    folder = OutputFolder(output, _KINDS.get(export.request.format, "rows"), export.digest)
    with folder.opened() as is_finished:
        if is_finished:
            log("this export is already finished; its files are unchanged")
        rows, step = len(export.rows), export.request.file_rows
        progress = Progress(
            log, "shards" if export.request.format == WEBDATASET else "files", export.files, rate_noun="rows"
        )

        def write(number: int) -> tuple[Manifest, bool]:
            start, stop = (0, rows) if export.request.format == NPY else (number * step, min((number + 1) * step, rows))
            key = "uids" if export.request.format == NPY else f"{number:05d}"
            done = folder.finished(key)
            manifest = done or folder.write(key, _names(export, key), stop - start, _builder(export, start, stop))
            return manifest, done is not None

        manifests, resumed = list[Manifest](), 0
        for manifest, was_done in map_in_order(write, () if is_finished else range(export.files), threads):
            manifests.append(manifest)
            resumed += was_done
            export.counts.written += manifest.counts.rows_out
            export.counts.leave_out(DUPLICATE, manifest.counts.reasons.get(DUPLICATE, 0))
            progress.add(fine=manifest.counts.rows_out)
        if is_finished:
            counts, size = folder.finished_results()
        else:
            counts, files = export.counts, files_of(manifests)
            counts.check()
            size = sum(entry.size for entry in files)
            folder.finish(finished_json(export.recipe, counts, files))
    return ExportReport(export.digest, counts, export.files, size, resumed, len(export.source.missing))


def estimate_size(export: Export) -> int:
    """Estimate the bytes of an export.

    For webdataset, from the mean size of the images of each source shard. For a list, from its first rows. An npy file
    has a known size.
    """
    rows = len(export.rows)
    if export.request.format == NPY:
        return _NPY_HEADER_BYTES + _UID_BYTES * rows
    if export.request.format == WEBDATASET:
        return sum(
            round((each.shard.tar_size + each.shard.parquet_size) * each.rows / max(each.shard.images, 1))
            for each in export.selection.shards
        )
    first = min(rows, _ESTIMATED_FROM_ROWS)
    with tempfile.TemporaryDirectory(prefix="laion-assets-") as folder:
        path = Path(folder) / "rows"
        _write_list(export, path, 0, first)
        return path.stat().st_size * rows // max(first, 1)


def _columns(source: ShardRows, request: ExportRequest, results: SearchResults | None) -> list[str]:
    """Return the columns of the export. Raises ExportError for an unknown or duplicate one."""
    if request.format == WEBDATASET:
        return list(source.shard_schema.names)
    if request.format == NPY:
        return ["uid"]
    known = [*source.schema.names, *([SEARCH_SIMILARITY] if results is not None else [])]
    if request.columns is None:
        return known
    for name in request.columns:
        if name not in known or request.columns.count(name) > 1:
            reason = "is listed twice" if name in known else "does not exist"
            raise ExportError(f"The column {name!r} of --columns {reason}. Columns: {', '.join(known)}.")
    return list(request.columns)


def _names(export: Export, key: str) -> list[str]:
    """Return the file names of a shard."""
    if export.request.format == WEBDATASET:
        return [f"{key}{suffix}" for suffix in SUFFIXES]
    return [f"{key}{LIST_SUFFIXES.get(export.request.format, '.npy')}"]


def _builder(export: Export, start: int, stop: int) -> Callable[[dict[str, Path]], int]:
    """Return the function that writes the rows from `start` to `stop` to local paths, and returns their number."""

    def build(paths: dict[str, Path]) -> int:
        if export.request.format == WEBDATASET:
            files = {suffix: path for name, path in paths.items() for suffix in SUFFIXES if name.endswith(suffix)}
            write_shard(export.source, export.rows, start, stop, files)
            return stop - start
        (path,) = paths.values()
        if export.request.format == NPY:
            return write_uid_array(path, (table for _, table in export.rows.tables(start, stop, ["uid"])))
        _write_list(export, path, start, stop)
        return stop - start

    return build


def _write_list(export: Export, path: Path, start: int, stop: int) -> None:
    import pyarrow as pa

    schema = pa.schema([export.rows.schema.field(name) for name in export.columns])
    tables = (table for _, table in export.rows.tables(start, stop, export.columns))
    write_list(export.request.format, path, schema, tables, export.request.escape_formulas)
