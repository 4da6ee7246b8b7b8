"""`laion-assets status`."""

from collections import Counter

import click

from laion_assets.cli.dataset_option import chosen, dataset_option, print_root
from laion_assets.cli.output import echo, echo_json
from laion_assets.stages.registry import stage_names
from laion_assets.stages.status import DatasetStatus, PartitionState, State
from laion_assets.stages.stored_layout import describe_old, old_partitions

_STATES = (State.COMPLETE, State.STALE, State.MISSING, State.DAMAGED)


@click.command()
@dataset_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: counts by asset.")
@click.option("--check", is_flag=True, help="Exit with status 1 unless every partition is complete.")
def status(name: str, as_json: bool, check: bool) -> None:
    """Count complete, stale, missing and damaged partitions of each asset, from their manifests.

    \b
    complete  its manifest agrees with the files, the settings and the inputs
    stale     settings or inputs changed since it was built; shown, never rebuilt by itself
    missing   not committed
    damaged   committed, but its files or its manifest are missing, truncated or altered
    Partitions of another layout than the dataset's are named below the table (old_layout in JSON).
    """
    dataset = chosen(name)
    print_root(dataset)
    freshness = DatasetStatus(dataset)
    states = {asset: freshness.states(asset) for asset in stage_names(dataset)}
    old = old_partitions(dataset, freshness.store)
    if as_json:
        counts = {asset: {**summary(found), "old_layout": len(old.get(asset, ()))} for asset, found in states.items()}
        echo_json(counts)
    else:
        _print_table(states)
        if old:
            echo(f"  of another layout: {describe_old(old)}. materialize --remove-old-layout removes", fg="yellow")
    if check and (old or any(not state.is_complete for found in states.values() for state in found)):
        raise SystemExit(1)


def summary(states: list[PartitionState]) -> dict[str, int]:
    """Number of partitions by state, the total, and rows and bytes of those that are published.

    `local_failures` are those of the missing that a run refused to commit.
    """
    counted = Counter(state.state for state in states)
    manifests = [state.manifest for state in states if state.manifest is not None]
    return {
        **{state: counted[state] for state in _STATES},
        "local_failures": sum(state.local_failure for state in states),
        "total": len(states),
        "rows": sum(manifest.counts.rows_out for manifest in manifests),
        "bytes": sum(manifest.size for manifest in manifests),
    }


def _print_table(states: dict[str, list[PartitionState]]) -> None:
    echo(f"{'asset':<20}{'complete':>16}{'stale':>8}{'missing':>9}{'damaged':>9}{'rows out':>14}{'size':>10}")
    for asset, found in states.items():
        one = summary(found)
        line = (
            f"{asset:<20}{one['complete']:>8,} / {one['total']:<6,}{one['stale']:>7,}{one['missing']:>9,}"
            f"{one['damaged']:>9,}{one['rows']:>14,}{_size(one['bytes']):>10}"
        )
        echo(line, fg="green" if one["complete"] == one["total"] else None)
    for asset, found in states.items():
        refused = [state for state in found if state.local_failure]
        if refused:
            echo(
                f"  {asset}: the last run is incomplete, {len(refused):,} partitions were not committed because of "
                f"local failures. {refused[0].reason}. Then run them again.",
                fg="red",
            )
        odd = [state for state in found if state.state in (State.STALE, State.DAMAGED)]
        for state in odd[:5]:
            echo(f"  {asset} {state.key} is {state.state}: {state.reason}", fg="yellow")
        if len(odd) > 5:
            echo(f"  {asset}: {len(odd) - 5:,} more", fg="yellow")


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
