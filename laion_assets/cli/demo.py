"""`laion-assets demo`."""

import time
from pathlib import Path

import click

from laion_assets.cli.dataset_option import load_dataset
from laion_assets.cli.output import echo
from laion_assets.cli.report import print_report
from laion_assets.orchestration.instance import dagster_home
from laion_assets.progress import duration

QUERY = "a small red circle left of a large blue square"


@click.command(short_help="Run the whole pipeline on the embedded sample, offline.")
@click.option("--query", default=QUERY, show_default=True, help="Example query for the new index.")
def demo(query: str) -> None:
    """Run the whole pipeline on the embedded sample, offline: from crawl CSVs to a search result.

    Starts a small web site on loopback. Materializes the assets of the dataset `sample` in Dagster runs, which
    `laion-assets dev` shows. Prints the input, output and dropped rows of each stage. Writes the results of an example
    query as a contact sheet (PNG). The first run takes a few minutes. Complete partitions are not run again.
    """
    from laion_assets.orchestration.runs import materialize

    started = time.monotonic()
    dataset = load_dataset("sample")
    echo(f"files:            {dataset.root}/{dataset.name}")
    echo(f"Dagster instance: {dagster_home()}")
    echo()
    reports = materialize(dataset, on_report=print_report)

    from laion_assets.search.answer import answer_with_sheet
    from laion_assets.stages.search_report.handle import PAGE
    from laion_assets.stages.statistics.build import REPORT
    from laion_assets.store.store import Store

    store = Store.of(dataset)
    sheet = (store.local_root or Path.cwd()) / "search" / "demo.png"
    results = answer_with_sheet(dataset, query, 12, sheet)
    echo()
    echo(f'"{query}"', bold=True)
    for rank, result in enumerate(results[:5], 1):
        echo(f"  {rank}. {result.similarity:.3f}  {result.caption}")
    echo()
    echo(f"contact sheet:    {sheet}")
    echo(f"statistics:       {store.address(REPORT)}")
    echo(f"search report:    {store.address(PAGE)}")
    ran = sum(report.ran for report in reports)
    echo(f"took {duration(time.monotonic() - started)}, {ran} partitions run")
    echo("next: `laion-assets dev` opens the graph in the Dagster UI; `laion-assets --help` lists all commands")
