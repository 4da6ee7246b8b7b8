"""Estimates of rows, bytes and time for partitions that would run, from committed partitions."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.image_shards.retry_reasons import reasons_of_shard
from laion_assets.stages.source_changes import SourceChanges
from laion_assets.stages.stage import Stage
from laion_assets.stages.status import DatasetStatus, PartitionState
from laion_assets.store.manifest import Manifest


@dataclass(frozen=True)
class Estimate:
    """Rows that would be read, bytes that would be written (of a source: fetched), and seconds. None: unknown."""

    rows: int | None = None
    bytes: int | None = None
    seconds: float | None = None


def estimate(
    dataset: Dataset,
    status: DatasetStatus,
    stage: Stage,
    states: Mapping[int, PartitionState],
    to_run: Sequence[int],
    retry: tuple[str, ...],
    changes: SourceChanges,
    changing: Collection[int],
) -> Estimate:
    """Estimate the work of partitions of a stage.

    The rows of a partition are those of its committed input, unless that is rebuilt (`changing`), its own of the
    last time, or the mean of the others. Bytes
    and seconds per row are those of the committed partitions. Time counts from the start of a transaction, so the
    reading of the source by Spark is not in it.
    """
    if not to_run:
        return Estimate(0, 0, 0.0)
    if stage.upstream is None:  # counts files; their time was not measured
        return Estimate(None, changes.size if changes else None, None)
    committed = [state.manifest for state in states.values() if state.manifest is not None]
    known = sum(manifest.counts.rows_in for manifest in committed)
    if retry:
        rows: int | None = _count_retried(dataset, states, to_run, retry)
    else:
        mean = known / len(committed) if committed else None
        rows = _count_rows(dataset, status, stage, states, to_run, mean, changing)
    if rows is None or not known:
        return Estimate(rows)
    share = rows / known
    size = round(sum(manifest.size for manifest in committed) * share)
    return Estimate(rows, size, round(busy_seconds(committed) * share, 1))


def busy_seconds(manifests: Iterable[Manifest]) -> float:
    """Return the time during which at least one of the partitions was being built. Parallel work counts once."""
    spans = []
    for manifest in manifests:
        try:
            end = datetime.fromisoformat(manifest.committed_at).timestamp()
        except ValueError:
            continue
        spans.append((end - manifest.seconds, end))
    busy, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        busy += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return busy


def _count_retried(
    dataset: Dataset, states: Mapping[int, PartitionState], to_run: Sequence[int], retry: tuple[str, ...]
) -> int:
    manifests = [states[number].manifest for number in to_run]
    return sum(
        each.counts.reasons[reason]
        for each in manifests
        if each is not None
        for reason in reasons_of_shard(dataset, each, retry)
    )


def _count_rows(
    dataset: Dataset,
    status: DatasetStatus,
    stage: Stage,
    states: Mapping[int, PartitionState],
    to_run: Sequence[int],
    mean: float | None,
    changing: Collection[int],
) -> int | None:
    """Return the rows that these partitions read, None if nothing tells."""
    before = stage.upstream(dataset) if stage.upstream else None
    shares: dict[int, float] = {}
    if before is not None and before.unit == stage.unit:
        readers = (
            Counter(number for each in states for number in stage.upstream_partitions(dataset, each)[1])
            if stage.reads
            else Counter()
        )
        for number in {number for each in to_run for number in stage.upstream_partitions(dataset, each)[1]}:
            manifest = status.committed(before.name, number)
            if manifest is not None and number not in changing:
                shares[number] = manifest.counts.rows_out / max(readers[number], 1)
    total = 0.0
    for number in to_run:
        read = stage.upstream_partitions(dataset, number)[1]
        manifest = states[number].manifest
        if shares and all(each in shares for each in read):
            total += sum(shares[each] for each in read)
        elif manifest is not None:
            total += manifest.counts.rows_in
        elif mean is not None:
            total += mean
        else:
            return None
    return round(total)
