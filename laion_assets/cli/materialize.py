"""`laion-assets materialize`."""

import click

from laion_assets.cli.dataset_option import chosen, dataset_option, print_root
from laion_assets.cli.report import print_report
from laion_assets.handles import PUBLISHED_PARQUET, STAGES, stages_of


@click.command()
@click.argument("assets", nargs=-1, type=click.Choice((PUBLISHED_PARQUET, *STAGES)))
@dataset_option()
@click.option(
    "--partitions",
    "span",
    metavar="FIRST..LAST",
    help="Only these partition numbers, both included: 0..103. With one asset only.",
)
def materialize(assets: tuple[str, ...], name: str, span: str | None) -> None:
    """Run what is not complete of ASSETS (all five if none is named), one after the other.

    Complete partitions are not run again. The runs show in the Dagster page (make dev). Ctrl-C keeps every
    finished partition; the same command goes on from there.
    """
    from laion_assets.runs import materialize as run

    within = _span(span)
    if within is not None and len(assets) != 1:
        raise click.UsageError("--partitions goes with exactly one asset.")
    dataset = chosen(name)
    stages = stages_of(dataset)
    if foreign := [asset for asset in assets if asset not in stages]:
        kind = "published parquet files" if dataset.published else "CSVs"
        raise click.UsageError(f"{name} starts from {kind}: it has {', '.join(stages)}, and no {foreign[0]}.")
    print_root(dataset)
    run(dataset, [stage for stage in stages if not assets or stage in assets], within, print_report)


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
