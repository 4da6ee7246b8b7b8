"""`python -m laion_assets.cli.clip_retrieval_back`: serve a dataset's indices with `clip-retrieval back`."""

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset
from laion_assets.errors import LaionAssetsError


@click.command()
@dataset_option()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; the service has no login.")
@click.option("--port", default=1234, show_default=True, type=click.IntRange(1, 65_535), help="Port to listen on.")
def main(name: str, host: str, port: int) -> None:
    """Serve the committed indices of a dataset with `clip-retrieval back`."""
    from laion_assets.search.clip_retrieval_back import serve

    try:
        serve(load_dataset(name), host, port)
    except LaionAssetsError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
