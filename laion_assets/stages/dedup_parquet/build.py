"""`dedup_parquet`: the source read by Spark, one exchange by hash range, one published file a task."""

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
from laion_assets.dataset.layout import Layout
from laion_assets.errors import IncompleteError, LaionAssetsError
from laion_assets.stages.dedup_parquet.inputs import Inputs, inputs_of
from laion_assets.stages.dedup_parquet.progress import reported
from laion_assets.stages.dedup_parquet.readers.csv_rows import rows_of_file
from laion_assets.stages.dedup_parquet.readers.parquet_rows import parquet_rows_of_file
from laion_assets.stages.dedup_parquet.settings import MetadataSettings
from laion_assets.stages.dedup_parquet.spark.partition_writer import MAX_NAMED, PartitionWriter
from laion_assets.stages.dedup_parquet.spark.sorted_run_merge import RANGE_BYTES
from laion_assets.stages.dedup_parquet.spark.sorted_runs import RUN_BYTES, SortedRunBuilder
from laion_assets.stages.dedup_parquet.spark.spark_settings import SESSION_CONF
from laion_assets.stages.dedup_parquet.spark.task_memory import keep_freed_memory
from laion_assets.stages.dedup_parquet.stage import STAGE
from laion_assets.stages.handles import DEDUP_PARQUET
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import state_before_run
from laion_assets.store.manifest import Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.columns import EXCHANGE_DDL

GROUP_BYTES = 128 << 20
"""Size of the CSV files that one task reads; a larger file is one task."""
TASKS_A_CORE = 3
"""Reading tasks a core, at least, so that no core waits long for the last one."""
_RESULT_SCHEMA = pa.schema([("parquet", pa.int32()), ("error", pa.string()), ("message", pa.string())])


def build_dedup_parquet(
    spark: Any, dataset: Dataset, store: Store, partitions: Sequence[int], log: Callable[[str], None]
) -> list[Manifest]:
    """Build and publish these partitions of `dedup_parquet` with a SparkSession; returns their manifests in order.

    Partitions that are already published from the same files with the same settings are left as they are. Each
    partition is published the moment its task is done; no row comes to the driver. The same files give the same bytes,
    whatever their order, the parallelism and the partitions asked for. Raises IncompleteError without its input,
    LayoutError when a shard would have too many rows, and what publishing raises.
    """
    raw, source = inputs_of(dataset, store)
    layout = dataset.layout
    settings = STAGE.settings_digest(dataset)
    inputs = {parquet: inputs_digest(layout.parquet_key(parquet), [raw]) for parquet in partitions}
    wanted = []
    for parquet in dict.fromkeys(partitions):
        key = layout.parquet_key(parquet)
        if not state_before_run(store, STAGE, DEDUP_PARQUET, key, settings, inputs[parquet]).is_complete:
            wanted.append(parquet)
    if len(wanted) < len(partitions):
        log(f"{len(partitions) - len(wanted)} of {len(partitions)} parquet files are there already")
    if wanted:
        digests = {each: inputs[each] for each in wanted}
        writer = PartitionWriter(store, layout, tuple(wanted), settings, digests, RANGE_BYTES)
        _run(spark, dataset, source, writer, log)
    manifests = [_published(store, layout.parquet_key(parquet)) for parquet in partitions]
    for line in left_out_lines(manifests):
        log(line)
    return manifests


def left_out_lines(manifests: Sequence[Manifest]) -> Iterator[str]:
    """For the log: which headers the files have that were left out as a whole, and which settings decide it."""
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest.details.get("left_out", {}))
    for header, files in counts.most_common(MAX_NAMED):
        yield f"{files:,} files left out, {header}"
    if counts:
        yield "metadata.separator splits a header, metadata.required_columns names the columns that it must have"


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
    metadata = replace(dataset.metadata, where=dataset.metadata.where.loaded())
    # Each task gets the paths of its group; all of them, with every task, would be tens of megabytes.
    reader = _Reader(replace(source, files=()), metadata, dataset.layout, writer.partitions, RUN_BYTES)
    results = plan(session, files, len(groups), reader, writer)
    with reported(session, len(groups), len(writer.partitions), source.size, log), _own_errors():
        failures = [row for row in results.collect() if row.error]
    if failures:
        first = min(failures, key=lambda row: row.parquet)
        raise getattr(errors, first.error)("\n".join(row.message for row in sorted(failures)[:5]))


def plan(session: Any, files: pa.Table, groups: int, reader: "_Reader", writer: PartitionWriter) -> Any:
    """The job as a DataFrame, not yet run: groups of files are read, runs gathered by partition, partitions written."""
    runs = (
        session.createDataFrame(files, "group int, path string, size bigint")
        .repartitionById(groups, "group")
        .mapInArrow(reader, EXCHANGE_DDL)
    )
    gathered = runs.repartitionById(len(writer.partitions), "position")
    return gathered.mapInArrow(_Publisher(writer), "parquet int, error string, message string")


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Raise an error of this project that a reading task raised as itself; Spark wraps it in a traceback's text."""
    try:
        yield
    except Exception as error:
        found = re.findall(r"^laion_assets\.errors\.(\w+): (.*)$", str(error), re.MULTILINE)
        if not found:
            raise
        kind, message = found[-1]  # a traceback ends with the outermost error
        raise getattr(errors, kind)(message) from error


def group_files(files: Iterable[tuple[str, int]], group_bytes: int, at_least: int) -> list[list[tuple[str, int]]]:
    """Files of (path, size) in groups of about equal size, at most `group_bytes` unless one file is larger.

    At least one group, of no file where there is none, and `at_least` groups where there are so many files.
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
class _Reader:
    """Reads a group's files in a Spark task."""

    source: Inputs
    settings: MetadataSettings
    layout: Layout
    partitions: tuple[int, ...]
    run_bytes: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        keep_freed_memory()
        positions = Positions(self.layout, self.partitions)
        cutter = SortedRunBuilder(self.run_bytes)
        for batch in batches:
            for path, size in zip(batch.column("path").to_pylist(), batch.column("size").to_pylist(), strict=True):
                for rows in self._rows(path, size, positions):
                    yield from cutter.add(rows)
        yield from cutter.finish()

    def _rows(self, path: str, size: int, positions: Positions) -> Iterator[pa.RecordBatch]:
        read = parquet_rows_of_file if path.lower().endswith(".parquet") else rows_of_file
        with self.source.open(path, size) as file:
            yield from read(file, self.source.source_file(path), self.settings, positions)


@dataclass(frozen=True)
class _Publisher:
    """Publishes the partition whose runs a Spark task gets; gives its number, or the error to raise."""

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


def _published(store: Store, key: str) -> Manifest:
    manifest = read_manifest(store, DEDUP_PARQUET, key)
    if manifest is None:
        raise IncompleteError(f"{DEDUP_PARQUET} {key} was removed while it was made: materialize it again.")
    return manifest
