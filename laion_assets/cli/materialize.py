"""`laion-assets materialize`."""

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo
from laion_assets.cli.report import print_report
from laion_assets.errors import SettingError
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.retry_reasons import retry_reasons
from laion_assets.stages.registry import STAGES, stage_names

_ASSETS = [stage.name for stage in STAGES]


@click.command(
    short_help="Run the partitions that are not complete.", epilog=f"ASSETS: one or more of {', '.join(_ASSETS)}."
)
@click.argument("assets", nargs=-1, metavar="[ASSETS]...", type=click.Choice(_ASSETS))
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
@click.option(
    "--remove-old-layout",
    is_flag=True,
    help="First remove partitions of another layout (other numbers of shards or files). Needs their manifests.",
)
def materialize(
    assets: tuple[str, ...], name: str, partition_range: str | None, retry: str | None, remove_old_layout: bool
) -> None:
    """Run the partitions of ASSETS that are not complete (all assets by default), in order.

    Complete partitions are not run again. The runs appear in the Dagster UI (make dev). Ctrl-C keeps every
    committed partition. Run the same command again to continue.

    \b
    --retry failed           all failures except permanent ones (404, 410, 451, refused by the guard)
    --retry retryable        temporary failures: DNS, connection, deadline, 429, 5xx, local failures
    --retry dns_failure,...  rows with these reasons; permanent failures must be named
    Images already in the shard keep their bytes. Opted-out rows are never fetched again.
    """
    from laion_assets.orchestration.runs import materialize as run

    numbers = _parse_range(partition_range)
    if numbers is not None and len(assets) != 1:
        raise click.UsageError("--partitions needs exactly one asset: materialize image_shards --partitions 0..103.")
    if retry is not None and assets != (IMAGE_SHARDS,):
        raise click.UsageError("--retry needs image_shards as the only asset: materialize image_shards --retry failed.")
    reasons = _parse_reasons(retry)
    dataset = load_dataset(name)
    stages = stage_names(dataset)
    if foreign := [asset for asset in assets if asset not in stages]:
        start = "published parquet files" if dataset.published else "CSVs"
        raise click.UsageError(
            f"The dataset {name} has no asset {foreign[0]}, because it starts from {start}. "
            f"Choose from {', '.join(stages)}."
        )
    print_root(dataset)
    if remove_old_layout:
        from laion_assets.stages import stored_layout

        removed = stored_layout.remove_old_layout(dataset, echo)
        echo(f"removed {removed:,} partitions of other layouts")
    run(dataset, [stage for stage in stages if not assets or stage in assets], numbers, print_report, reasons)


def _parse_reasons(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        reasons = tuple(reason.value for reason in retry_reasons(text))
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
