"""Serve a dataset's indices with `clip-retrieval back`:

    python -m laion_assets.cli.clip_retrieval_back --dataset sample

The command `clip-retrieval back` cannot do this for the sample: open_clip knows an architecture only in the process
that registered it, and torchvision does not load with a torch without CUDA. This module fixes both. The service, its
endpoints and its responses are clip-retrieval's own, with two differences: it listens on loopback by default, and the
images of a query are downloaded by the guarded fetcher and decoded in the decoder process.
"""

import importlib
import io
import json
import tempfile
from typing import Any

from laion_assets.dataset.dataset import SAMPLE_MODEL, Dataset
from laion_assets.errors import IncompleteError, QueryError
from laion_assets.search.query import Searcher
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.store import Store

COLUMNS = ["url", "image_path", "caption", "NSFW", "uid"]
"""The columns that the service returns for each result."""


def serve(dataset: Dataset, host: str, port: int) -> None:
    """Serve until the process ends. Raises IncompleteError without indices, ModelError for another model."""
    store = Store.of(dataset)
    Searcher(dataset, store)  # raises if the indices are missing or were built with another model
    if store.local_root is None:
        raise IncompleteError(
            f"The indices of {dataset.name} are at {store.address(KNN_INDICES)}, but clip-retrieval opens local files "
            "only. Copy the dataset's folder to a local disk and set `root` to it."
        )
    from laion_assets.models.open_clip_package import import_open_clip
    from laion_assets.sample.clip.model import clip_retrieval_name

    name = clip_retrieval_name() if dataset.model == SAMPLE_MODEL else dataset.model
    import_open_clip(name.removeprefix("open_clip:").partition("/")[0])
    import flask

    # The package also has a function of this name.
    clip_back: Any = importlib.import_module("clip_retrieval.clip_back")

    run = flask.Flask.run
    flask.Flask.run = lambda app, **options: run(app, **{**options, "host": host})  # type: ignore[method-assign]
    clip_back.download_image = lambda url: io.BytesIO(_fetch(dataset, url))
    clip_back.Image = _SafeImages(dataset)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as paths:
        json.dump({dataset.name: str(store.local_root / KNN_INDICES)}, paths)
        paths.flush()
        clip_back.clip_back(
            indices_paths=paths.name,
            port=port,
            clip_model=name,
            use_jit=False,
            enable_mclip_option=False,
            provide_aesthetic_embeddings=False,
            enable_faiss_memory_mapping=True,
            columns_to_return=COLUMNS,
        )


class _SafeImages:
    """Replaces the module PIL.Image in clip-retrieval, for the images of queries."""

    def __init__(self, dataset: Dataset) -> None:
        self._images = dataset.images

    def open(self, stream: Any) -> Any:
        """Decode an image and resize it like the dataset's images. Raises QueryError if it is not an image."""
        from PIL import Image

        from laion_assets.stages.image_shards.decoding.decoder_process import reencode

        image = reencode(self._images, stream.read())
        if image.content is None:
            raise QueryError(f"The image of the query cannot be decoded: {image.error_message}.")
        return Image.open(io.BytesIO(image.content)).convert("RGB")


def _fetch(dataset: Dataset, url: str) -> bytes:
    from laion_assets.http.fetch import shared_fetcher
    from laion_assets.reasons import Reason

    fetched = shared_fetcher(dataset.fetch_policy).fetch(url)
    if fetched.reason is not Reason.SUCCESS:
        raise QueryError(
            f"The image URL of the query could not be downloaded: {fetched.reason.value} ({fetched.detail})."
        )
    return fetched.body
