"""Build `dedup_parquet`: Spark reads the source, exchanges rows by hash range, and commits one file per task."""

import contextlib
import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from laion_assets import errors
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import Positions
from laion_assets.dataset.layout import Layout, ParquetNumber
from laion_assets.errors import IncompleteError, LaionAssetsError
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.dedup_parquet.inputs import Inputs, find_inputs
from laion_assets.stages.dedup_parquet.progress import report_progress
from laion_assets.stages.dedup_parquet.readers.file_format import READERS, file_format
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.dedup_parquet.spark.partition_writer import MAX_NAMED, PartitionWriter
from laion_assets.stages.dedup_parquet.spark.session_conf import SESSION_CONF
from laion_assets.stages.dedup_parquet.spark.sorted_run_merge import RANGE_BYTES
from laion_assets.stages.dedup_parquet.spark.sorted_runs import RUN_BYTES, SortedRunBuilder
from laion_assets.stages.dedup_parquet.spark.task_memory import keep_freed_memory
from laion_assets.stages.dedup_parquet.stage import STAGE
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import state_before_run
from laion_assets.store.manifest import Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.columns import EXCHANGE_DDL

GROUP_BYTES = 128 << 20
"""Size of the files that one task reads. A larger file is a task of its own."""
TASKS_A_CORE = 3
"""Minimum number of reading tasks per core, so that no core waits long for the last task."""
_RESULT_SCHEMA = pa.schema([("parquet", pa.int32()), ("error", pa.string()), ("message", pa.string())])


def build_dedup_parquet(
    spark: Any, dataset: Dataset, store: Store, partitions: Sequence[int], log: Callable[[str], None]
) -> list[Manifest]:
    """Build and commit partitions of `dedup_parquet` with a SparkSession, and return their manifests in order.

    Skips partitions that are complete, intact and up to date. Each partition is committed as soon as its task is done.
    No rows pass through the driver. The output bytes depend only on the files and the settings, not on the order of the
    files, the parallelism or the requested partitions. Raises IncompleteError if the input is not complete, LayoutError
    if a shard would have too many rows, and the errors of a commit.
    """
    raw, source = find_inputs(dataset, store)
    layout = dataset.layout
    settings = STAGE.settings_digest(dataset)
    parquets = [ParquetNumber(partition) for partition in partitions]
    inputs = {parquet: inputs_digest(layout.parquet_key(parquet), [raw]) for parquet in parquets}
    to_build = []
    for parquet in dict.fromkeys(parquets):
        key = layout.parquet_key(parquet)
        state = state_before_run(
            store, STAGE, DEDUP_PARQUET, key, settings, inputs[parquet], rebuild_before=dataset.rebuild_before
        )
        if not state.is_complete:
            to_build.append(parquet)
    if len(to_build) < len(partitions):
        log(f"{len(partitions) - len(to_build)} of {len(partitions)} parquet files are already complete")
    if to_build:
        digests = {each: inputs[each] for each in to_build}
        writer = PartitionWriter(store, layout, tuple(to_build), settings, digests, RANGE_BYTES, dataset.dedup.kept)
        _run(spark, dataset, source, writer, log)
    manifests = [_read_manifest(store, layout.parquet_key(parquet)) for parquet in parquets]
    for line in summarise_left_out(manifests):
        log(line)
    return manifests


def summarise_left_out(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield log lines about files that were left out as a whole: their headers, and the settings that decide it."""
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest.details.get("left_out", {}))
    for header, files in counts.most_common(MAX_NAMED):
        yield f"{files:,} files left out, {header}"
    if counts:
        yield (
            "check dedup.separator, which splits a header, dedup.required_columns, the columns that it must have, and "
            "dedup.url_column and dedup.caption_column, their names"
        )


def _run(spark: Any, dataset: Dataset, source: Inputs, writer: PartitionWriter, log: Callable[[str], None]) -> None:
    session = spark.newSession()
    for name, value in SESSION_CONF.items():
        session.conf.set(name, value)
    at_least = TASKS_A_CORE * max(session.sparkContext.defaultParallelism, 1)
    groups = group_files(source.files, GROUP_BYTES, at_least)
    log(
        f"reading {len(source.files):,} files ({source.size / 1e6:,.1f} MB) in {len(groups):,} tasks, "
        f"for {len(writer.partitions):,} parquet files"
    )
    files = pa.table(
        {
            "group": pa.array([number for number, group in enumerate(groups) for _ in group], pa.int32()),
            "path": pa.array([path for group in groups for path, _ in group], pa.string()),
            "size": pa.array([size for group in groups for _, size in group], pa.int64()),
        }
    )
    settings = replace(dataset.dedup, where=dataset.dedup.where.load_lists())
    # Each task gets only the paths of its group. All paths, sent with every task, would be tens of megabytes.
    reader = _ReadTask(replace(source, files=()), settings, dataset.layout, writer.partitions, RUN_BYTES)
    results = plan_job(session, files, len(groups), reader, writer)
    with report_progress(session, len(groups), len(writer.partitions), source.size, log), _unwrap_errors():
        failures = [row for row in results.collect() if row.error]
    if failures:
        first = min(failures, key=lambda row: row.parquet)
        raise getattr(errors, first.error)("\n".join(row.message for row in sorted(failures)[:5]))


def plan_job(session: Any, files: pa.Table, groups: int, reader: "_ReadTask", writer: PartitionWriter) -> Any:
    """Return the lazy DataFrame of the job: read groups of files, exchange runs by partition, write partitions."""
    runs = (
        session.createDataFrame(files, "group int, path string, size bigint")
        .repartitionById(groups, "group")
        .mapInArrow(reader, EXCHANGE_DDL)
    )
    gathered = runs.repartitionById(len(writer.partitions), "position")
    return gathered.mapInArrow(_PartitionTask(writer), "parquet int, error string, message string")


@contextlib.contextmanager
def _unwrap_errors() -> Iterator[None]:
    """Raise the original error of a reading task, which Spark wraps in the text of a traceback."""
    try:
        yield
    except Exception as error:
        found = re.findall(r"^laion_assets\.errors\.(\w+): (.*)$", str(error), re.MULTILINE)
        if not found:
            raise
        kind, message = found[-1]  # a traceback ends with the outermost error
        raise getattr(errors, kind)(message) from error


def group_files(files: Iterable[tuple[str, int]], group_bytes: int, at_least: int) -> list[list[tuple[str, int]]]:
    """Split files of (path, size) into groups of about equal size, at most `group_bytes` unless a file is larger.

    Returns at least `at_least` groups if there are enough files, and one empty group if there are none.
    """
    ordered = sorted(files, key=lambda file: (-file[1], file[0]))
    total = sum(size for _, size in ordered)
    target = max(min(group_bytes, -(-total // max(at_least, 1))), 1)
    count = max(min(max(-(-total // target), at_least), len(ordered)), 1)
    heap = [(0, number) for number in range(count)]
    groups: list[list[tuple[str, int]]] = [[] for _ in range(count)]
    for path, size in ordered:
        filled, number = heapq.heappop(heap)
        groups[number].append((path, size))
        heapq.heappush(heap, (filled + size, number))
    return groups


@dataclass(frozen=True)
class _ReadTask:
    """Function of a Spark task that reads the files of a group into sorted runs."""

    source: Inputs
    settings: DedupSettings
    layout: Layout
    partitions: tuple[int, ...]
    run_bytes: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        keep_freed_memory()
        positions = Positions(self.layout, self.partitions)
        runs = SortedRunBuilder(self.run_bytes, self.settings.kept)
        for batch in batches:
            for path, size in zip(batch.column("path").to_pylist(), batch.column("size").to_pylist(), strict=True):
                for rows in self._read_file(path, size, positions):
                    yield from runs.add(rows)
        yield from runs.finish()

    def _read_file(self, path: str, size: int, positions: Positions) -> Iterator[pa.RecordBatch]:
        read = READERS[file_format(path, self.settings)]
        with self.source.open(path, size) as file:
            yield from read(file, self.source.source_file(path), self.settings, positions)


@dataclass(frozen=True)
class _PartitionTask:
    """Function of a Spark task that commits a partition from its runs. Yields its number, or the error to raise."""

    writer: PartitionWriter

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        keep_freed_memory()
        context = TaskContext.get()
        position = context.partitionId() if context else 0
        parquet = self.writer.partitions[position]
        error, message = None, None
        try:
            self.writer.write(position, batches)
        except LaionAssetsError as problem:
            error, message = type(problem).__name__, str(problem)
        yield pa.RecordBatch.from_arrays(
            [pa.array([parquet], pa.int32()), pa.array([error], pa.string()), pa.array([message], pa.string())],
            schema=_RESULT_SCHEMA,
        )


def _read_manifest(store: Store, key: str) -> Manifest:
    manifest = read_manifest(store, DEDUP_PARQUET, key)
    if manifest is None:
        raise IncompleteError(f"{DEDUP_PARQUET} {key} was removed while it was built. Materialize it again.")
    return manifest
