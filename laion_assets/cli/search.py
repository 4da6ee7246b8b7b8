"""`laion-assets search`."""

import dataclasses
from pathlib import Path

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo, echo_json


@click.command()
@click.argument("text", required=False)
@dataset_option()
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Search for images like this file, in place of TEXT.",
)
@click.option("--k", "-k", default=10, show_default=True, type=click.IntRange(1, 1000), help="Number of results.")
@click.option(
    "--modality",
    type=click.Choice(["image", "text"]),
    default="image",
    show_default=True,
    help="Search in the images or in the captions.",
)
@click.option("--sheet", type=click.Path(dir_okay=False, path_type=Path), help="Also write a contact sheet (PNG).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of results.")
def search(
    text: str | None, name: str, image: Path | None, k: int, modality: str, sheet: Path | None, as_json: bool
) -> None:
    """Search the dataset's index for the images nearest to TEXT, or to the image in a file.

    \b
    laion-assets search --dataset sample "a red circle left of a blue square" --k 5
    laion-assets search --dataset sample "a green star" --sheet star.png
    laion-assets search --dataset sample --image star.jpg
    laion-assets search --dataset sample "a green star" --json | jq -r '.[].url'
    """
    from laion_assets.search.answer import Query, answer, answer_with_sheet

    if (text is None) == (image is None):
        raise click.UsageError('Give a text or --image FILE: search "a green star", or search --image star.jpg.')
    query: Query = text or "" if image is None else image
    dataset = load_dataset(name)
    print_root(dataset)
    results = (
        answer(dataset, query, k, modality) if sheet is None else answer_with_sheet(dataset, query, k, sheet, modality)
    )
    if as_json:
        echo_json([dataclasses.asdict(result) for result in results])
        return
    for rank, result in enumerate(results, 1):
        echo(f"{rank:>3}. {result.similarity:.4f}  {result.key}  {result.caption}")
        echo(f"     {result.url}", dim=True)
    if sheet is not None:
        echo(f"contact sheet: {sheet}")
