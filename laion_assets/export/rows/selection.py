"""Select rows: one pass over the metadata of all committed shards, in parallel, with one bit a row kept in memory."""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from laion_assets.export.request import ExportRequest
from laion_assets.export.rows.counts import (
    DUPLICATE,
    HIDDEN,
    MISSING_SHARD,
    NO_IMAGE,
    NOT_FOUND,
    NOT_MATCHING,
    NOT_SCORED,
    ExportCounts,
)
from laion_assets.export.rows.predicate import Predicate
from laion_assets.export.rows.search_results import SearchResults
from laion_assets.export.rows.shard_rows import CommittedShard, ShardRows
from laion_assets.export.rows.uid_list import UidList, parse_uids
from laion_assets.progress import Progress
from laion_assets.reasons import SUCCESS_STATUS
from laion_assets.search.results.safety import is_shown
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.store.manifest import read_manifest
from laion_assets.store.stored_parquet import open_parquet

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = min(8, os.cpu_count() or 1)
_TAG = "NSFW"


@dataclass(frozen=True)
class ShardSelection:
    """The rows of a shard to export: their number, and one bit a row of the shard (`numpy.packbits`)."""

    shard: CommittedShard
    rows: int
    bits: "np.ndarray" = field(repr=False)

    def positions(self) -> "np.ndarray":
        """Return the row numbers in the shard, ascending, (rows,) int64."""
        import numpy as np

        return np.flatnonzero(np.unpackbits(self.bits, count=self.shard.rows))


@dataclass
class Selection:
    """The rows to export, in the order of their shards, and the counts so far."""

    shards: list[ShardSelection]
    counts: ExportCounts

    @property
    def rows(self) -> int:
        """The number of rows to export."""
        return sum(each.rows for each in self.shards)


def select_rows(
    source: ShardRows,
    request: ExportRequest,
    predicate: Predicate | None,
    uids: UidList | None,
    results: SearchResults | None,
    log: Callable[[str], None] = lambda line: None,
) -> Selection:
    """Select the rows of a request. At most one of `uids` and `results` limits the candidates.

    Raises ExportError for a predicate that fails, IntegrityError for an altered file.
    """
    listed = results.uids if results is not None else uids
    shards = source.shards if results is None else [each for each in source.shards if each.number in results.shards]
    needed = ["status", *(["uid"] if listed is not None else []), *(predicate.columns if predicate else [])]
    if source.safety is not None and not request.include_hidden:
        needed.append("uid")
    columns = list(dict.fromkeys([*needed, *(name for name in source.schema.names if name == _TAG)]))
    progress = Progress(log, "shards read", len(shards), rate_noun="rows")

    def select(shard: CommittedShard) -> tuple[ShardSelection, Counter[str], "np.ndarray"]:
        table = source.read(shard.number, columns)
        return _select_in_shard(source, request, shard, table, predicate, listed)

    counts, selected = ExportCounts(), list[ShardSelection]()
    for found, tally, positions in map_in_order(select, shards):
        counts.read += found.shard.rows
        counts.selected += tally.pop("selected")
        for reason, rows in tally.items():
            counts.leave_out(reason, rows)
        if listed is not None:
            listed.found[positions] = True
        if found.rows:
            selected.append(found)
        progress.add(fine=found.shard.rows)
    if listed is not None:
        _count_absent(source, listed, counts)
    return Selection(selected, counts)


def _select_in_shard(
    source: ShardRows,
    request: ExportRequest,
    shard: CommittedShard,
    table: "pa.Table",
    predicate: Predicate | None,
    listed: UidList | None,
) -> tuple[ShardSelection, Counter[str], "np.ndarray"]:
    """Return the rows of a shard to export, the counts, and the positions of its rows in the list."""
    import numpy as np
    import pyarrow.compute as pc

    chosen = np.ones(table.num_rows, bool)
    positions = np.empty(0, np.int64)
    tally = Counter[str]()
    if listed is not None:
        places = listed.positions(parse_uids(table["uid"].to_pylist(), f"shard {shard.number}: row", 0))
        chosen = places >= 0
        positions = places[chosen]
    candidates = int(chosen.sum())
    if predicate is not None and candidates:
        matching = predicate.mask(table)
        if listed is not None:
            tally[NOT_MATCHING] = int((chosen & ~matching).sum())
        chosen &= matching
    tally["selected"] = candidates if listed is not None else int(chosen.sum())
    if not request.include_hidden:
        shown = _shown(source, table)
        tally[HIDDEN] = int((chosen & ~shown).sum())
        chosen &= shown
    images = pc.fill_null(pc.equal(table["status"], SUCCESS_STATUS), False).to_numpy()
    if not request.include_failed:
        tally[NO_IMAGE] = int((chosen & ~images).sum())
        chosen &= images
    if source.safety is not None and not request.include_hidden:
        _leave_out_unsafe(source, source.safety, shard, table["uid"], chosen, images, tally)
    return ShardSelection(shard, int(chosen.sum()), np.packbits(chosen)), tally, positions


def _shown(source: ShardRows, table: "pa.Table") -> "np.ndarray":
    """Return which rows may be shown by their NSFW tag, as the search service decides it, (n,) bool."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if _TAG not in table.column_names:
        return np.ones(table.num_rows, bool)
    tags = pc.unique(table[_TAG]).to_pylist()
    shown = [tag for tag in tags if is_shown({_TAG: tag}, source.dataset.search)]
    return pc.is_in(table[_TAG], value_set=pa.array(shown, table[_TAG].type)).to_numpy()


def _leave_out_unsafe(
    source: ShardRows,
    safety: SafetyModel,
    shard: CommittedShard,
    uids: "pa.ChunkedArray",
    chosen: "np.ndarray",
    images: "np.ndarray",
    tally: Counter[str],
) -> None:
    """Clear the chosen rows with an image that the safety model hides or cannot score, and count them."""
    import numpy as np

    scored = np.flatnonzero(chosen & images)
    vectors, has_vector = source.image_vectors(shard.number, uids.take(scored))
    unsafe = np.zeros(len(scored), bool)
    if has_vector.any():
        safety.require_width(vectors.shape[1], source.dataset.name)
        unsafe[has_vector] = safety.is_unsafe(vectors)
    tally[HIDDEN] += int(unsafe.sum())
    tally[NOT_SCORED] += int((~has_vector).sum())
    chosen[scored] = has_vector & ~unsafe


def _count_absent(source: ShardRows, listed: UidList, counts: ExportCounts) -> None:
    """Count the listed uids that no committed row has: duplicates, of a missing shard, or not found."""
    import numpy as np

    absent = listed.uids[~listed.found]
    in_missing = np.zeros(len(absent), bool)
    for first, last in _uid_ranges(source):
        in_missing |= (absent >= first) & (absent <= last)
    missing = int(in_missing.sum())
    counts.leave_out(DUPLICATE, listed.listed - len(listed.uids))
    counts.leave_out(MISSING_SHARD, missing)
    counts.leave_out(NOT_FOUND, len(absent) - missing)
    counts.selected += listed.listed - len(listed.uids) + len(absent)


def _uid_ranges(source: ShardRows) -> Iterator[tuple["np.ndarray", "np.ndarray"]]:
    """Yield the first and last uid of each missing shard, from the statistics of its row group in dedup_parquet."""
    import pyarrow.parquet as pq

    layout, store = source.dataset.layout, source.store
    for parquet in sorted({layout.parquet_of_shard(shard) for shard in source.missing}):
        manifest = read_manifest(store, DEDUP_PARQUET, layout.parquet_key(parquet))
        if manifest is None:
            continue
        with open_parquet(store, manifest, DedupParquet.path(layout, parquet)) as file:
            footer = pq.ParquetFile(file).metadata
        for shard in source.missing:
            if layout.parquet_of_shard(shard) == parquet:
                uids = footer.row_group(layout.row_group_of_shard(shard)).column(0).statistics
                if uids is not None and uids.has_min_max:
                    first, last = parse_uids([uids.min, uids.max], "dedup_parquet: row")
                    yield first, last


def map_in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int = THREADS) -> Iterator[Result]:
    """Yield `work` of each item in order, computed by threads; few results wait in memory at a time."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="export") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for waiting in pending:
                waiting.cancel()
