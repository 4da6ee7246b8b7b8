"""Counts of a stage over all of its committed partitions, from manifests."""

from collections import Counter
from dataclasses import dataclass, field

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.registry import find_stage
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import Manifest


@dataclass
class Totals:
    """Sums over the `committed` of `declared` partitions: rows in and out, dropped rows by reason, bytes of files."""

    declared: int
    committed: int = 0
    rows_in: int = 0
    rows_out: int = 0
    bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, manifest: Manifest) -> None:
        """Add a committed partition."""
        self.committed += 1
        self.rows_in += manifest.counts.rows_in
        self.rows_out += manifest.counts.rows_out
        self.bytes += manifest.size
        self.reasons += Counter(manifest.counts.reasons)  # leaves out counts of 0


def sum_partitions(dataset: Dataset, asset: str) -> Totals:
    """Add up the manifests of a stage. A damaged manifest is left out. Files are not looked at."""
    totals = Totals(len(find_stage(asset).handle.numbers(dataset.layout)))
    for manifest in DatasetStatus(dataset).manifests(asset):
        totals.add(manifest)
    return totals
