"""Encode the texts and images of queries. Texts that arrive while the model works are encoded together."""

import contextlib
import queue
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.search.queries.query_images import decode_query_image, download_query_image

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from laion_assets.models.clip_model import ClipModel

MAX_BATCH = 64
"""Maximum number of texts that are encoded together."""
_CACHED_TEXTS = 10_000


class QueryEncoder:
    """A CLIP model with a thread of its own, in which it is loaded and used: a model is not thread-safe.

    Both methods return at once. Their futures end with the (width,) float32 vector of norm 1, or an error: ModelError
    if the model cannot be loaded, EmbeddingError if a vector has no direction.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._queue: queue.SimpleQueue[tuple[str, Any, Future[np.ndarray]] | None] = queue.SimpleQueue()
        self._texts: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._model: Future[ClipModel] = Future()
        self.hits = self.misses = self.batches = 0
        # One: the decoder process decodes one image after the other.
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="query-image")
        self._downloads = ThreadPoolExecutor(4, thread_name_prefix="query-download")
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of texts and images that wait for the model."""
        return self._queue.qsize()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded. Raises ModelError if it could not be."""
        return self._model.done() and self._model.result() is not None

    def load(self, timeout_s: float | None = None) -> "ClipModel":
        """Wait for the model. Raises ModelError if it cannot be loaded."""
        return self._model.result(timeout_s)

    def encode_text(self, text: str) -> "Future[np.ndarray]":
        """Encode a text. Recent texts are kept with their vectors."""
        with self._lock:
            cached = self._texts.get(text)
            if cached is not None:
                self.hits += 1
                self._texts.move_to_end(text)
        found: Future[np.ndarray] = Future()
        if cached is not None:
            found.set_result(cached)
        else:
            self.misses += 1
            self._queue.put(("text", text, found))
        return found

    def encode_image_file(self, dataset: Dataset, content: bytes, field: str = "image") -> "Future[np.ndarray]":
        """Decode an image file in the decoder process and encode it. The future may also end with QueryError."""
        found: Future[np.ndarray] = Future()

        self._decoder.submit(self._decode, dataset, content, field, found)
        return found

    def encode_image_url(self, dataset: Dataset, url: str, field: str = "image_url") -> "Future[np.ndarray]":
        """Download an image behind the guard, then as `encode_image_file`. The future may also end with QueryError."""
        found: Future[np.ndarray] = Future()

        def download() -> None:
            try:
                content = download_query_image(dataset, url, field)
                self._decoder.submit(self._decode, dataset, content, field, found)
            except BaseException as error:
                found.set_exception(error)

        self._downloads.submit(download)
        return found

    def _decode(self, dataset: Dataset, content: bytes, field: str, found: "Future[np.ndarray]") -> None:
        try:
            self._queue.put(("image", decode_query_image(dataset, content, field), found))
        except BaseException as error:
            found.set_exception(error)

    def close(self) -> None:
        """End the thread. What still waits is cancelled."""
        self._downloads.shutdown(wait=False, cancel_futures=True)
        self._decoder.shutdown(wait=False, cancel_futures=True)
        self._queue.put(None)
        self._thread.join(30)

    def _work(self) -> None:
        from laion_assets.models.loading import load_model

        settings = self._dataset.embeddings
        try:
            model = load_model(self._dataset.model, settings.device, settings.precision)
            model.encode_texts(["a photo"])  # the first call compiles and allocates
            self._model.set_result(model)
        except BaseException as error:
            self._model.set_exception(error)
        while (first := self._queue.get()) is not None:
            tasks = [first]
            while len(tasks) < MAX_BATCH:
                try:
                    task = self._queue.get_nowait()
                except queue.Empty:
                    break
                if task is None:
                    self._queue.put(None)
                    break
                tasks.append(task)
            self._encode(tasks)
        with contextlib.suppress(queue.Empty):
            while (task := self._queue.get_nowait()) is not None:
                task[2].cancel()

    def _encode(self, tasks: "list[tuple[str, Any, Future[np.ndarray]]]") -> None:
        running = [task for task in tasks if task[2].set_running_or_notify_cancel()]
        texts = list(dict.fromkeys(value for kind, value, _ in running if kind == "text"))
        vectors: dict[str, Any] = {}
        try:
            model = self._model.result()
            if texts:
                self.batches += 1
                vectors = dict(zip(texts, model.encode_texts(texts), strict=True))
                with self._lock:
                    self._texts.update(vectors)
                    while len(self._texts) > _CACHED_TEXTS:
                        self._texts.popitem(last=False)
        except BaseException as error:
            for _, _, future in running:
                future.set_exception(error)
            return
        for kind, value, future in running:
            try:
                future.set_result(vectors[value] if kind == "text" else _encode_image(model, value))
            except BaseException as error:
                future.set_exception(error)


def _encode_image(model: "ClipModel", image: "Image.Image") -> "np.ndarray":
    import torch

    return model.encode_images(torch.stack([model.preprocess(image)]))[0]
