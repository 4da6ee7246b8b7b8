"""Whether a stage kept enough rows: the same rule for all stages, from the manifests of its committed partitions.

A stage fails if its committed partitions together kept no row, or less than `min_kept_share` of the rows that they
could have kept. Duplicates and rows that a filter of the dataset drops were meant to go, so they do not count. One
partition is not enough evidence about its stage: a shard whose images are all deleted is valid and empty, even if it is
the first one built. So the rule needs two partitions that read rows, or every partition of the stage. A share of fewer
than `MIN_ROWS` rows is no evidence. If a stage read no rows, the rule applies to the stage before it, back to the
source.

The partitions stay committed: they record what was dropped and why, and with `allow_empty` no work is repeated.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import EmptyStageError, IntegrityError
from laion_assets.stages.registry import find_stage
from laion_assets.stages.stage import Stage
from laion_assets.stages.totals import Totals
from laion_assets.store.manifest import Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.tables.row_reasons import DUPLICATE, Filtered

TOP_REASONS = 5
MIN_ROWS = 100
"""Fewer rows fail only if none is kept."""
INTENDED = frozenset({DUPLICATE, *Filtered})
FIX = (
    "Correct its input or its settings, or set allow_empty to true (LAION_ASSETS_ALLOW_EMPTY) if no rows are expected."
)
FIX_SHARE = "Correct its input or its settings, or lower min_kept_share (LAION_ASSETS_MIN_KEPT_SHARE) if this is right."
Advise = Callable[[Dataset, Counter[str]], str]
"""Returns sentences with the likely fix for the reasons of dropped rows; empty if there is none."""


@dataclass
class _Kept(Totals):
    """The totals of a stage, and the number of its committed partitions that read rows."""

    with_rows: int = 0

    def add(self, manifest: Manifest) -> None:
        """Add a committed partition."""
        super().add(manifest)
        self.with_rows += manifest.counts.rows_in > 0

    @property
    def is_conclusive(self) -> bool:
        """Whether these partitions are enough evidence about the stage."""
        return self.with_rows > 1 or self.committed == self.declared

    def is_enough(self, share: float) -> bool:
        """Whether the rows that were kept are at least this share of those that could have been."""
        possible = self.rows_in - sum(self.reasons[reason] for reason in INTENDED)
        return self.rows_out > 0 and (possible < MIN_ROWS or self.rows_out >= share * possible)


def require_rows(dataset: Dataset, asset: str, partitions: Iterable[int] | None = None) -> None:
    """Refuse a stage that kept no row or too few. Raises EmptyStageError naming the stage that lost the rows, the most
    frequent reasons, and the fix.

    If the `partitions` of a run kept enough rows, the others are not read.
    """
    stage = find_stage(asset)
    if dataset.allow_empty or stage.upstream is None:
        return
    share = dataset.min_kept_share
    numbers = stage.handle.numbers(dataset.layout)
    if partitions is not None and _count(dataset, stage, partitions).is_enough(share):
        return
    found = _count(dataset, stage, numbers, until_kept=not share)
    if not found.committed or found.is_enough(share):
        return
    if found.rows_in:
        if found.is_conclusive:
            raise EmptyStageError(_describe(dataset, stage, found))
        return
    before = stage.upstream(dataset)
    if before.upstream is not None:
        require_rows(dataset, before.name)
    elif found.is_conclusive:
        raise EmptyStageError(f"{dataset.name}/{asset} found no rows in the files of {before.name}. {FIX}")


def _describe(dataset: Dataset, stage: Stage, found: _Kept) -> str:
    lost = (
        Counter({reason: count for reason, count in found.reasons.items() if reason not in INTENDED}) or found.reasons
    )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in lost.most_common(TOP_REASONS))
    more = len(lost) - TOP_REASONS
    named = f"{reasons} and {more} more reasons" if more > 0 else reasons
    limit = f", and min_kept_share is {dataset.min_kept_share:g}" if found.rows_out else ""
    advice = ""
    if stage.advise:
        module, _, name = stage.advise.partition(":")
        advise: Advise = getattr(importlib.import_module(module), name)
        advice = advise(dataset, lost)
    sentences = [f"{dataset.name}/{stage.name} kept {found.rows_out:,} of {found.rows_in:,} rows{limit}: {named}."]
    return " ".join([*sentences, *filter(None, [advice]), FIX_SHARE if found.rows_out else FIX])


def _count(dataset: Dataset, stage: Stage, numbers: Iterable[int], until_kept: bool = False) -> _Kept:
    """Count the rows of committed partitions, without damaged manifests. `until_kept` stops at the first kept row."""
    store = Store.of(dataset)
    found = _Kept(declared=len(stage.handle.numbers(dataset.layout)))
    for number in numbers:
        try:
            manifest = read_manifest(store, stage.name, stage.handle.key(dataset.layout, number))
        except IntegrityError:
            continue
        if manifest is None:
            continue
        found.add(manifest)
        if until_kept and found.rows_out:
            break
    return found
