"""`laion-assets relayout`."""

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo
from laion_assets.cli.plan import is_terminal
from laion_assets.errors import LayoutError


@click.command(short_help="Remove the partitions of an earlier layout.")
@dataset_option(required=True)
@click.option("--dry-run", is_flag=True, help="Show what would be removed; change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def relayout(name: str, dry_run: bool, yes: bool) -> None:
    """Show, and after a question remove, the partitions that do not belong to the declared layout of a dataset.

    A dataset whose numbers of parquet files, shards or embedding files were changed is not materialized over the old
    partitions: a reader of the folder would read both. Only files that a manifest names are removed. The source files
    stay. `laion-assets materialize` then builds the new layout, and downloads the images of removed shards again.
    """
    from laion_assets.stages.stored_layout import measure_old, old_partitions, remove_old_layout
    from laion_assets.store.store import Store

    dataset = load_dataset(name)
    print_root(dataset)
    store = Store.of(dataset)
    old = old_partitions(dataset, store)
    if not old:
        echo(f"Every partition of {dataset.name} belongs to its declared layout. Nothing to remove.")
        return
    echo(f"{'partitions of another layout':<32}{'partitions':>12}{'rows':>14}{'MB':>12}")
    for asset, (count, rows, size) in measure_old(store, old).items():
        echo(f"{asset:<32}{count:>12,}{rows:>14,}{size / 1e6:>12,.1f}")
    if dry_run:
        return
    total = sum(map(len, old.values()))
    if not yes:
        if not is_terminal():
            raise LayoutError(f"{total:,} partitions of {dataset.name} would be removed. To do it, add --yes.")
        click.confirm(f"Remove these {total:,} partitions?", abort=True)
    echo(f"removed {remove_old_layout(dataset):,} partitions. Next: laion-assets materialize --dataset {name}")
