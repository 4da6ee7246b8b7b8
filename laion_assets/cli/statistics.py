"""`laion-assets statistics`."""

from typing import Any

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo, echo_json
from laion_assets.orchestration.writable_folders import require_root
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS


@click.command(short_help="Print the dataset statistics and the path of the HTML report.")
@dataset_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all statistics by asset.")
def statistics(name: str, as_json: bool) -> None:
    """Print the dataset statistics, and the path of the report (one HTML page with plots).

    Reads the assets dataset_statistics and image_statistics, and writes the report from them:

    \b
    laion-assets materialize -d sample dataset_statistics image_statistics
    laion-assets statistics -d sample
    laion-assets statistics -d sample --json | jq .dataset_statistics.similarity
    """
    from laion_assets.stages.statistics.build import REPORT, read_summaries, write_report
    from laion_assets.store.store import Store

    dataset = load_dataset(name)
    store = Store.of(dataset)
    print_root(dataset)
    require_root(dataset)
    write_report(dataset, store)
    summaries = read_summaries(store)
    if as_json:
        echo_json(summaries)
        return
    if DATASET_STATISTICS in summaries:
        _print_dataset(summaries[DATASET_STATISTICS])
    if IMAGE_STATISTICS in summaries:
        _print_images(summaries[IMAGE_STATISTICS])
    echo(f"report: {store.address(REPORT)}")


def _print_dataset(summary: dict[str, Any]) -> None:
    _print_title("rows", summary, "parquet files")
    echo(f"  {'unique rows':<24}{summary['rows']:>14,}   of {summary['read']['rows']:,} read")
    echo(f"  {'domains':<24}{summary['domains']['distinct']:>14,}   {_join_counts(summary['domains']['most'], 3)}")
    for measure in ("width", "height", "caption_chars", "similarity"):
        quantiles = summary[measure]
        shown = "  ".join(f"{float(q):.0%}: {quantiles[q]:,}" for q in ("0.05", "0.5", "0.95") if quantiles)
        echo(f"  {measure.replace('_', ' '):<24}{shown}")
    _print_sizes(summary)
    echo(f"  {'nsfw':<24}{_join_counts(summary['nsfw'], 5)}")
    echo(f"  {'licences':<24}{_join_counts(summary['licenses'], 5)}")


def _print_images(summary: dict[str, Any]) -> None:
    _print_title("images", summary, "shards")
    rate = summary["success_rate"]
    share = "" if rate is None else f"   {rate:.1%}"
    echo(f"  {'images':<24}{summary['successes']:>14,}   of {summary['rows']:,} rows{share}")
    echo(f"  {'reasons':<24}{_join_counts(summary['reasons'], 6)}")
    _print_sizes(summary)


def _print_title(title: str, summary: dict[str, Any], unit: str) -> None:
    part = summary["partitions"]
    echo(f"{title}  ({part['counted']:,} of {part['declared']:,} {unit})", bold=True)


def _print_sizes(summary: dict[str, Any]) -> None:
    classes = [(f">= {bound} px", summary["at_least"][bound]) for bound in ("256", "512", "1024")]
    echo(f"  {'shorter side':<24}{_join_counts(classes, 3)}")


def _join_counts(named: list[Any], limit: int) -> str:
    more = f", {len(named) - limit} more" if len(named) > limit else ""
    return ", ".join(f"{row[0]} {row[1]:,}" for row in named[:limit]) + more
