"""Whether a stage kept any row: one rule for every stage, from the manifests of its committed partitions.

A stage fails if all of its committed partitions together read rows and kept none. One partition is not enough evidence
about its stage: a shard whose images are all deleted is valid and empty, even if it is the first one built. So the rule
needs two partitions that read rows, or every partition of the stage. If a stage read no rows, the rule applies to the
stage before it, back to the source.

The partitions stay committed: they record what was dropped and why, and with `allow_empty` no work is repeated.
"""

from collections import Counter
from dataclasses import dataclass, field

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import EmptyStageError, IntegrityError
from laion_assets.stages.registry import find_stage
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store

TOP_REASONS = 5
FIX = (
    "Correct its input or its settings, or set allow_empty to true (LAION_ASSETS_ALLOW_EMPTY) if no rows are expected."
)


@dataclass
class _Loss:
    """Input of a stage without a kept row: rows by reason, and the number of partitions."""

    declared: int
    committed: int = 0
    took_rows: int = 0
    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def is_conclusive(self) -> bool:
        """Whether these partitions speak for the stage."""
        return self.took_rows > 1 or self.committed == self.declared


def require_rows(dataset: Dataset, asset: str) -> None:
    """Refuse a stage that kept no row. Raises EmptyStageError naming the stage that lost the rows, and its reasons."""
    stage = find_stage(asset)
    lost = None if dataset.allow_empty or stage.upstream is None else _find_loss(dataset, asset)
    if lost is None or not lost.committed:
        return
    if lost.rows:
        if lost.is_conclusive:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in lost.reasons.most_common(TOP_REASONS))
            more = len(lost.reasons) - TOP_REASONS
            named = f"{reasons} and {more} more reasons" if more > 0 else reasons
            raise EmptyStageError(f"{dataset.name}/{asset} kept 0 of {lost.rows:,} rows: {named}. {FIX}")
        return
    assert stage.upstream is not None
    before = stage.upstream(dataset)
    if before.upstream is not None:
        require_rows(dataset, before.name)
    elif lost.is_conclusive:
        raise EmptyStageError(f"{dataset.name}/{asset} found no rows in the files of {before.name}. {FIX}")


def _find_loss(dataset: Dataset, asset: str) -> _Loss | None:
    """Return the input of the committed partitions, None if one of them kept a row. A damaged manifest is left out."""
    handle, store = find_stage(asset).handle, Store.of(dataset)
    numbers = handle.numbers(dataset.layout)
    lost = _Loss(declared=len(numbers))
    for number in numbers:
        try:
            manifest = read_manifest(store, asset, handle.key(dataset.layout, number))
        except IntegrityError:
            continue
        if manifest is None:
            continue
        if manifest.counts.rows_out:
            return None
        lost.committed += 1
        lost.took_rows += manifest.counts.rows_in > 0
        lost.rows += manifest.counts.rows_in
        lost.reasons += Counter(manifest.counts.reasons)  # leaves out counts of 0
    return lost
