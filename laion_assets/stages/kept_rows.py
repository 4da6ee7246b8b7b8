"""Whether a stage kept any row: one rule for every stage, judged from the manifests of its committed partitions.

A stage fails if all of its committed partitions together took rows and kept none. One partition proves nothing about
its stage: a shard whose images are all gone is valid and empty, also when it is the first one made. So the rule needs
two partitions that took rows, or every partition of the stage. A stage that took no rows is not to blame: the stage
before it is asked, back to the source.

The partitions stay committed: they say what was dropped and why, and with `allow_empty` no work is done twice.
"""

from collections import Counter
from dataclasses import dataclass, field

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import EmptyStageError, IntegrityError
from laion_assets.stages.handles import HANDLES, SOURCES
from laion_assets.stages.status import upstream_partitions
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store

TOP_REASONS = 5
FIX = (
    "Correct its input or its settings, or set allow_empty to true (LAION_ASSETS_ALLOW_EMPTY) if no rows are expected."
)


@dataclass
class _Lost:
    """What a stage without a kept row took: rows by reason, and over how many partitions."""

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
    lost = None if dataset.allow_empty or asset in SOURCES else _lost(dataset, asset)
    if lost is None or not lost.committed:
        return
    if lost.rows:
        if lost.is_conclusive:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in lost.reasons.most_common(TOP_REASONS))
            more = len(lost.reasons) - TOP_REASONS
            named = f"{reasons} and {more} more reasons" if more > 0 else reasons
            raise EmptyStageError(f"{dataset.name}/{asset} kept 0 of {lost.rows:,} rows: {named}. {FIX}")
        return
    before, _ = upstream_partitions(HANDLES[asset], dataset, HANDLES[asset].numbers(dataset.layout)[0])
    assert before is not None
    if before.asset not in SOURCES:
        require_rows(dataset, before.asset)
    elif lost.is_conclusive:
        raise EmptyStageError(f"{dataset.name}/{asset} found no rows in the files of {before.asset}. {FIX}")


def _lost(dataset: Dataset, asset: str) -> _Lost | None:
    """What the committed partitions took, None as soon as one of them kept a row. A damaged manifest is left out."""
    handle, store = HANDLES[asset], Store.of(dataset)
    numbers = handle.numbers(dataset.layout)
    lost = _Lost(declared=len(numbers))
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
