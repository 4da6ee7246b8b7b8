"""`laion-assets materialize`."""

import click

from laion_assets.cli.dataset_option import chosen, dataset_option, print_root
from laion_assets.cli.output import echo
from laion_assets.cli.report import print_report
from laion_assets.errors import SettingError
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.retry_reasons import retry_reasons
from laion_assets.stages.registry import STAGES, stage_names


@click.command()
@click.argument("assets", nargs=-1, type=click.Choice([stage.name for stage in STAGES]))
@dataset_option()
@click.option(
    "--partitions",
    "span",
    metavar="FIRST..LAST",
    help="Only these partition numbers, both included: 0..103. With one asset only.",
)
@click.option(
    "--retry",
    "retry",
    metavar="failed|retryable|REASON,...",
    help="With image_shards alone: fetch failed rows of finished shards again, and only these.",
)
@click.option(
    "--remove-old-layout",
    is_flag=True,
    help="First remove the partitions of another layout (other numbers of shards or files), by their manifests.",
)
def materialize(
    assets: tuple[str, ...], name: str, span: str | None, retry: str | None, remove_old_layout: bool
) -> None:
    """Run the partitions of ASSETS that are not complete (all assets by default), in order.

    Complete partitions are not run again. The runs appear in the Dagster UI (make dev). Ctrl-C keeps every
    committed partition; the same command continues from there.

    \b
    --retry failed           all failures except permanent ones (404, 410, 451, refused by the guard)
    --retry retryable        what may well pass: DNS, connection, deadline, 429, 5xx, own faults
    --retry dns_failure,...  rows with these reasons; settled ones have to be named
    Pictures that are there stay byte for byte. Rows whose owner opted out are never fetched again.
    """
    from laion_assets.orchestration.runs import materialize as run

    within = _span(span)
    if within is not None and len(assets) != 1:
        raise click.UsageError("--partitions goes with exactly one asset.")
    if retry is not None and assets != (IMAGE_SHARDS,):
        raise click.UsageError("--retry goes with image_shards alone: materialize image_shards --retry ...")
    reasons = _reasons(retry)
    dataset = chosen(name)
    stages = stage_names(dataset)
    if foreign := [asset for asset in assets if asset not in stages]:
        kind = "published parquet files" if dataset.published else "CSVs"
        raise click.UsageError(f"{name} starts from {kind}: it has {', '.join(stages)}, and no {foreign[0]}.")
    print_root(dataset)
    if remove_old_layout:
        from laion_assets.stages import stored_layout

        removed = stored_layout.remove_old_layout(dataset, echo)
        echo(f"{removed:,} partitions of other layouts removed")
    run(dataset, [stage for stage in stages if not assets or stage in assets], within, print_report, reasons)


def _reasons(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    try:
        reasons = tuple(reason.value for reason in retry_reasons(text))
    except SettingError as error:
        raise click.BadParameter(str(error)) from None
    if not reasons:
        raise click.BadParameter(f"--retry {text!r} names no reason: use failed, retryable or reasons.")
    return reasons


def _span(text: str | None) -> range | None:
    if text is None:
        return None
    first, dots, last = text.partition("..")
    try:
        numbers = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no span of partition numbers such as 0..103.") from None
    if not numbers:
        raise click.BadParameter(f"{text!r} is an empty span: the first number has to come first.")
    return numbers
