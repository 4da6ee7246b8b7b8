"""Serve a dataset's published indices with `clip-retrieval back`:

    python -m laion_assets.search.clip_retrieval_back --dataset sample

The command `clip-retrieval back` cannot do this for the sample: an architecture of open_clip is known to the process
that registered it, and torchvision does not load beside a torch without CUDA. Both are put right here; the service,
its endpoints and its answers are clip-retrieval's own. Two things differ: it listens on loopback unless told otherwise,
and images of a query are fetched by the guarded fetcher and decoded in the decoder's process.
"""

import importlib
import io
import json
import tempfile
from typing import Any

import click

from laion_assets.dataset.dataset import SAMPLE_MODEL, Dataset
from laion_assets.errors import IncompleteError, LaionAssetsError, QueryError
from laion_assets.search.query import Searcher
from laion_assets.stages.handles import KNN_INDICES
from laion_assets.store.store import Store

COLUMNS = ["url", "image_path", "caption", "NSFW", "uid"]
"""What the service returns of each result."""


def serve(dataset: Dataset, host: str, port: int) -> None:
    """Serve until the process ends. Raises IncompleteError without published indices, ModelError for another model."""
    store = Store.of(dataset)
    Searcher(dataset, store)  # refuses what is not published or was made with another model
    if store.local_root is None:
        raise IncompleteError(
            f"The indices of {dataset.name} are at {store.address(KNN_INDICES)} and clip-retrieval opens local files "
            "only. Copy the dataset's folder to a disk and set root to it."
        )
    from laion_assets.sample.clip.model import clip_retrieval_name, register
    from laion_assets.stages.clip_embeddings.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    register()
    import flask

    # The package has a function of the same name.
    clip_back: Any = importlib.import_module("clip_retrieval.clip_back")

    run = flask.Flask.run
    flask.Flask.run = lambda app, **options: run(app, **{**options, "host": host})  # type: ignore[method-assign]
    clip_back.download_image = lambda url: io.BytesIO(_fetched(dataset, url))
    clip_back.Image = _SafeImages(dataset)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as paths:
        json.dump({dataset.name: str(store.local_root / KNN_INDICES)}, paths)
        paths.flush()
        clip_back.clip_back(
            indices_paths=paths.name,
            port=port,
            clip_model=clip_retrieval_name() if dataset.model == SAMPLE_MODEL else dataset.model,
            use_jit=False,
            enable_mclip_option=False,
            provide_aesthetic_embeddings=False,
            enable_faiss_memory_mapping=True,
            columns_to_return=COLUMNS,
        )


class _SafeImages:
    """What clip-retrieval uses of the module PIL.Image, for images that a query brings."""

    def __init__(self, dataset: Dataset) -> None:
        self._images = dataset.images

    def open(self, stream: Any) -> Any:
        """The image, resized as the dataset's are. Raises QueryError for what is not one."""
        from PIL import Image

        from laion_assets.stages.image_shards.decoding.decoder_process import reencode

        image = reencode(self._images, stream.read())
        if image.content is None:
            raise QueryError(f"The query's image cannot be used: {image.error_message}.")
        return Image.open(io.BytesIO(image.content)).convert("RGB")


def _fetched(dataset: Dataset, url: str) -> bytes:
    from laion_assets.http.fetch import shared_fetcher
    from laion_assets.reasons import Reason

    fetched = shared_fetcher(dataset.fetch_policy).fetch(url)
    if fetched.reason is not Reason.SUCCESS:
        raise QueryError(f"The query's image URL was not fetched: {fetched.reason.value} ({fetched.detail}).")
    return fetched.body


@click.command(help=__doc__.partition("\n")[0])
@click.option("--dataset", "-d", "name", default="sample", show_default=True, help="Dataset, or NAME:FIRST..LAST.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; the service has no login.")
@click.option("--port", default=1234, show_default=True, type=click.IntRange(1, 65_535), help="Port to listen on.")
def main(name: str, host: str, port: int) -> None:
    """The command line of this module."""
    from laion_assets.cli.dataset_option import DatasetName, chosen

    try:
        serve(chosen(DatasetName().convert(name, None, None)), host, port)
    except LaionAssetsError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
