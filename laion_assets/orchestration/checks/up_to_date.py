"""The check `up_to_date` of every asset: how many partitions are complete, stale, damaged or missing, from manifests.

Dagster computes no staleness over edges as wide as ours (a hundred parents a partition) and does not know our settings.
A stale partition is a warning, a damaged one an error, a missing one neither. Nothing is rebuilt.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.partitions import all_partitions, partitions_of_run
from laion_assets.orchestration.ui.metadata_values import description, table, text
from laion_assets.stages.stage import Stage
from laion_assets.stages.status import DatasetStatus, PartitionState, State
from laion_assets.stages.stored_layout import describe_old, old_partitions

NAME = "up_to_date"
EXAMPLES = 20
"""Rows of a check's table; adjacent partitions with the same state and reason share a row."""
STATES = (State.COMPLETE, State.STALE, State.DAMAGED, State.MISSING)
_WORST_FIRST = (State.DAMAGED, State.STALE, State.MISSING)
DESCRIPTION = (
    "Counts partitions whose settings or inputs changed (stale: a warning), whose files are missing or truncated "
    "(damaged: an error), and that are not committed (missing: a warning where a run did not commit them because of a "
    "local failure). In a run over some partitions the check covers these; start it alone to cover all. It rebuilds "
    "nothing."
)


def up_to_date_checks(dataset: Dataset, stages: Sequence[Stage]) -> list[dg.AssetChecksDefinition]:
    """One such check for each asset."""
    return [_check(dataset, stage.name) for stage in stages]


def _check(dataset: Dataset, asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=asset_key(dataset, asset), name=NAME, description=DESCRIPTION)
    @own_errors_first
    def up_to_date(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        of_run = partitions_of_run(dataset, asset, context.run)
        status = DatasetStatus(dataset)
        covered = all_partitions(dataset, asset) if of_run is None else of_run
        scope = "all" if of_run is None else "of this run"
        old = old_partitions(dataset, status.store, asset).get(asset, [])
        return summarize([status.state(asset, partition) for partition in covered], scope, old)

    return up_to_date


def summarize(states: Iterable[PartitionState], scope: str, old: Sequence[str] = ()) -> dg.AssetCheckResult:
    """Return counts by state, the affected keys and examples. `scope` names the partitions that were checked.

    `old` are the keys of partitions of another layout than the dataset's, a warning.
    """
    states = list(states)
    counted = Counter(state.state for state in states)
    metadata: dict[str, dg.MetadataValue] = {state: dg.MetadataValue.int(counted[state]) for state in STATES}
    metadata["partitions"] = text(f"{len(states):,} ({scope})")
    if found := examples(states):
        metadata["examples"] = table(list(found[0]), [list(row.values()) for row in found[:EXAMPLES]])
        if len(found) > EXAMPLES:
            metadata["further_rows"] = dg.MetadataValue.int(len(found) - EXAMPLES)
    if old:
        metadata["of_another_layout"] = text(describe_old({"partitions": list(old)}))
    refused = sum(state.local_failure for state in states)
    metadata["local_failures"] = dg.MetadataValue.int(refused)
    summary = ", ".join(f"{counted[state]:,} {state}" for state in STATES if counted[state])
    if refused:
        summary += f" ({refused:,} not committed because of local failures)"
    return dg.AssetCheckResult(
        passed=not (counted[State.STALE] or counted[State.DAMAGED] or old or refused),
        severity=dg.AssetCheckSeverity.ERROR if counted[State.DAMAGED] else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
        description=description(
            f"{summary} of {len(states):,} partitions {f'({scope})' if scope != 'all' else ''}".strip()
            + (f"; {len(old):,} of another layout: laion-assets relayout removes them" if old else "")
        ),
    )


def examples(states: Iterable[PartitionState]) -> list[dict[str, str | int]]:
    """Return the rows of the table, worst state first: first and last key of a range, count, state and reason."""
    rows: list[dict[str, str | int]] = []
    for (state, reason), group in groupby(states, key=lambda one: (one.state, one.reason)):
        if state in _WORST_FIRST:
            keys = [one.key for one in group]
            rows.append({"first": keys[0], "last": keys[-1], "count": len(keys), "state": state, "why": reason})
    return sorted(rows, key=lambda row: _WORST_FIRST.index(str(row["state"])))
