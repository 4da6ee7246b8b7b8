"""`laion-assets serve`."""

import click

from laion_assets.cli.dataset_option import DatasetName, load_dataset, print_root
from laion_assets.cli.output import echo


@click.command(short_help="Serve search: a page, an API and images.")
@click.option(
    "--dataset",
    "-d",
    "names",
    type=DatasetName(),
    multiple=True,
    default=("sample",),
    show_default=True,
    help="Dataset to serve. Repeat the option to serve several.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65_535), help="Port; 0: a free one.")
def serve(names: tuple[str, ...], host: str, port: int) -> None:
    """Serve the committed indices of datasets: the search page at /, an API, and the stored images.

    \b
    laion-assets serve                                  the sample, at http://127.0.0.1:8000
    laion-assets serve --dataset cats --dataset dogs    two datasets
    curl http://127.0.0.1:8000/api/datasets

    Rows tagged NSFW or UNSURE are hidden, unless the setting search.show allows them. A newly committed index is used
    without a restart. clip-retrieval's clients work with the same address. Ctrl-C ends the service.
    """
    from laion_assets.server.run import serve as run

    datasets = [load_dataset(name) for name in dict.fromkeys(names)]
    for dataset in datasets:
        print_root(dataset)
    run(datasets, host, port, lambda line: echo(line, err=True))
