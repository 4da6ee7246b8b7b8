"""Counts of a stage over all of its committed partitions, from manifests."""

from collections import Counter
from dataclasses import dataclass, field

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.registry import find_stage
from laion_assets.stages.status import DatasetStatus


@dataclass
class Totals:
    """Sums over the `committed` of `declared` partitions: rows in and out, dropped rows by reason, bytes of files."""

    declared: int
    committed: int = 0
    rows_in: int = 0
    rows_out: int = 0
    bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def sum_partitions(dataset: Dataset, asset: str) -> Totals:
    """Add up the manifests of a stage. A damaged manifest is left out. Files are not looked at."""
    totals = Totals(len(find_stage(asset).handle.numbers(dataset.layout)))
    for manifest in DatasetStatus(dataset).manifests(asset):
        totals.committed += 1
        totals.rows_in += manifest.counts.rows_in
        totals.rows_out += manifest.counts.rows_out
        totals.bytes += manifest.size
        totals.reasons.update(manifest.counts.reasons)
    return totals
