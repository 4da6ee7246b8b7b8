"""`laion-assets status`."""

from collections import Counter
from dataclasses import asdict, dataclass

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo, echo_json
from laion_assets.stages.registry import stage_names
from laion_assets.stages.status import DatasetStatus, PartitionState, State
from laion_assets.stages.stored_layout import describe_old, old_partitions

MAX_LISTED = 5
"""Stale and damaged partitions that are listed for each asset."""


@dataclass(frozen=True)
class AssetSummary:
    """Partitions of one asset by state, and rows and bytes of the committed ones.

    `local_failures` counts those of the missing partitions that a run did not commit because of local failures.
    `adopted` counts the committed partitions whose files another program made.
    """

    complete: int
    stale: int
    missing: int
    damaged: int
    local_failures: int
    adopted: int
    total: int
    rows: int
    bytes: int


@click.command(short_help="Count complete, stale, missing and damaged partitions.")
@dataset_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: counts by asset.")
@click.option("--check", is_flag=True, help="Exit with status 1 unless every partition is complete.")
def status(name: str, as_json: bool, check: bool) -> None:
    """Count complete, stale, missing and damaged partitions of each asset, from their manifests.

    \b
    complete  its manifest agrees with the files, the settings and the inputs
    stale     settings or inputs changed since it was built; never rebuilt automatically
    missing   not committed
    damaged   committed, but its files or its manifest are missing, truncated or altered
    Partitions of another layout than the dataset's are listed below the table (old_layout in JSON).
    """
    dataset = load_dataset(name)
    print_root(dataset)
    freshness = DatasetStatus(dataset)
    states = {asset: freshness.states(asset) for asset in stage_names(dataset)}
    old = old_partitions(dataset, freshness.store)
    if as_json:
        echo_json(
            {
                asset: {**asdict(summarize(found)), "old_layout": len(old.get(asset, ()))}
                for asset, found in states.items()
            }
        )
    else:
        _print_table(states)
        if old:
            echo(
                f"  partitions of another layout: {describe_old(old)}. "
                f"To remove them, run: laion-assets relayout --dataset {name}",
                fg="yellow",
            )
    if check and (old or any(not state.is_complete for found in states.values() for state in found)):
        raise SystemExit(1)


def summarize(states: list[PartitionState]) -> AssetSummary:
    """Count the partitions of one asset by state, and the rows and bytes of those that are committed."""
    counts = Counter(state.state for state in states)
    manifests = [state.manifest for state in states if state.manifest is not None]
    return AssetSummary(
        complete=counts[State.COMPLETE],
        stale=counts[State.STALE],
        missing=counts[State.MISSING],
        damaged=counts[State.DAMAGED],
        local_failures=sum(state.local_failure for state in states),
        adopted=sum(manifest.is_adopted for manifest in manifests),
        total=len(states),
        rows=sum(manifest.counts.rows_out for manifest in manifests),
        bytes=sum(manifest.size for manifest in manifests),
    )


def _print_table(states: dict[str, list[PartitionState]]) -> None:
    echo(f"{'asset':<20}{'complete':>16}{'stale':>8}{'missing':>9}{'damaged':>9}{'rows out':>14}{'size':>10}")
    for asset, found in states.items():
        summary = summarize(found)
        line = (
            f"{asset:<20}{summary.complete:>8,} / {summary.total:<6,}{summary.stale:>7,}{summary.missing:>9,}"
            f"{summary.damaged:>9,}{summary.rows:>14,}{_format_size(summary.bytes):>10}"
        )
        echo(line, fg="green" if summary.complete == summary.total else None)
    for asset, found in states.items():
        if adopted := summarize(found).adopted:
            echo(f"  {asset}: {adopted:,} partitions were adopted (laion-assets adopt)")
        failed = [state for state in found if state.local_failure]
        if failed:
            echo(
                f"  {asset}: the last run is incomplete, {len(failed):,} partitions were not committed because of "
                f"local failures. {failed[0].reason}. Then run them again.",
                fg="red",
            )
        outdated = [state for state in found if state.state in (State.STALE, State.DAMAGED)]
        for state in outdated[:MAX_LISTED]:
            echo(f"  {asset} {state.key} is {state.state}: {state.reason}", fg="yellow")
        if len(outdated) > MAX_LISTED:
            echo(f"  {asset}: {len(outdated) - MAX_LISTED:,} more", fg="yellow")


def _format_size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return ""
