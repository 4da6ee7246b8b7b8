"""`laion-assets materialize`."""

import click

from laion_assets.cli.asset_argument import AssetName
from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo, echo_json
from laion_assets.cli.plan import confirm_repeated_work, print_plan
from laion_assets.cli.report import print_report
from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.retry_reasons import retry_reasons
from laion_assets.stages.registry import STAGES, stage_names
from laion_assets.stages.status import rebuild_all

_ASSETS = [stage.name for stage in STAGES]


@click.command(
    short_help="Run the partitions that are not complete.", epilog=f"ASSETS: one or more of {', '.join(_ASSETS)}."
)
@click.argument("assets", nargs=-1, metavar="[ASSETS]...", type=AssetName(_ASSETS))
@dataset_option()
@click.option(
    "--partitions",
    "partition_range",
    metavar="FIRST..LAST",
    help="Run only these partition numbers, both ends included, for example 0..103. Needs exactly one asset.",
)
@click.option(
    "--retry",
    "retry",
    metavar="failed|retryable|REASON,...",
    help="Only for image_shards: fetch failed rows of complete shards again. No other rows are fetched.",
)
@click.option("--no-refresh", is_flag=True, help="Do not check the source for new and changed files.")
@click.option("--force", is_flag=True, help="Make the selected partitions again, also complete ones.")
@click.option("--dry-run", is_flag=True, help="Print what would run and why, with rows, bytes and a rough time.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print the plan as JSON.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before images are downloaded or encoded again.")
@click.option(
    "--remove-old-layout",
    is_flag=True,
    help="First remove partitions of another layout, as `relayout --yes` does. Needs their manifests.",
)
def materialize(
    assets: tuple[str, ...],
    name: str,
    partition_range: str | None,
    retry: str | None,
    no_refresh: bool,
    force: bool,
    dry_run: bool,
    as_json: bool,
    yes: bool,
    remove_old_layout: bool,
) -> None:
    """Run the partitions of ASSETS that are not complete (all assets by default), in order.

    The source is checked first: new and changed files are fetched, and what was built from them is rebuilt.
    Complete partitions are not run again. If a changed setting would download or encode again, a question comes
    first; without a terminal, --yes is needed. The runs appear in the Dagster UI (laion-assets dev). Ctrl-C keeps every
    committed partition. Run the same command again to continue.

    \b
    --retry failed           all failures except permanent ones (404, 410, 451, refused by the guard)
    --retry retryable        temporary failures: DNS, connection, deadline, 429, 5xx, local failures
    --retry newly_allowed    URLs that the guard refused before its settings changed; part of the two above
    --retry dns_failure,...  rows with these reasons; permanent failures must be named
    Images already in the shard keep their bytes. Opted-out rows are never fetched again.
    """
    numbers = _parse_range(partition_range)
    if numbers is not None and len(assets) != 1:
        raise click.UsageError("--partitions needs exactly one asset: materialize image_shards --partitions 0..103.")
    if retry is not None and assets != (IMAGE_SHARDS,):
        raise click.UsageError("--retry needs image_shards as the only asset: materialize image_shards --retry failed.")
    if retry is not None and force:
        raise click.UsageError("--retry keeps the images of a shard and --force rebuilds all of them. Use one of them.")
    if as_json and not dry_run:
        raise click.UsageError("--json prints the plan. Add --dry-run.")
    if remove_old_layout and dry_run:
        raise click.UsageError("--remove-old-layout changes the store. `laion-assets relayout --dry-run` lists it.")
    reasons = _parse_reasons(retry)
    dataset = load_dataset(name)
    stages = stage_names(dataset)
    if foreign := [asset for asset in assets if asset not in stages]:
        start = "published parquet files" if dataset.published else "CSVs"
        raise click.UsageError(
            f"The dataset {name} has no asset {foreign[0]}, because it starts from {start}. "
            f"Choose from {', '.join(stages)}."
        )
    selected = [stage for stage in stages if not assets or stage in assets]
    print_root(dataset)
    if remove_old_layout:
        from laion_assets.stages import stored_layout

        removed = stored_layout.remove_old_layout(dataset, echo)
        echo(f"removed {removed:,} partitions of other layouts")
    if force:
        dataset = rebuild_all(dataset)
    _run(dataset, selected, numbers, reasons, refresh=not no_refresh, dry_run=dry_run, as_json=as_json, yes=yes)


def _run(
    dataset: Dataset,
    selected: list[str],
    numbers: range | None,
    reasons: tuple[str, ...],
    *,
    refresh: bool,
    dry_run: bool,
    as_json: bool,
    yes: bool,
) -> None:
    from laion_assets.stages.plan import check_source, make_plan
    from laion_assets.stages.stored_layout import check_store

    check_store(dataset, selected[0], ())
    changes = check_source(dataset, selected) if refresh else None
    plans = make_plan(dataset, selected, numbers, reasons, changes)
    if dry_run:
        if as_json:
            echo_json({plan.stage: plan.to_json() for plan in plans})
        else:
            print_plan(plans)
        return
    confirm_repeated_work(dataset, plans, is_allowed=yes, is_forced=bool(dataset.rebuild_before))
    from laion_assets.orchestration.runs import materialize as run

    run(dataset, selected, numbers, print_report, reasons, source_changed=bool(changes), refresh=refresh)


def _parse_reasons(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        reasons = tuple(map(str, retry_reasons(text)))
    except SettingError as error:
        raise click.BadParameter(str(error)) from None
    if not reasons:
        raise click.BadParameter(
            f"--retry {text!r} names no reason. Use failed, retryable, or a list such as dns_failure,http_429."
        )
    return reasons


def _parse_range(text: str | None) -> range | None:
    if text is None:
        return None
    first, dots, last = text.partition("..")
    try:
        numbers = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise click.BadParameter(
            f"Invalid partition range {text!r}. Expected FIRST..LAST, for example 0..103."
        ) from None
    if not numbers:
        raise click.BadParameter(f"Empty partition range {text!r}. FIRST must not be greater than LAST.")
    return numbers
