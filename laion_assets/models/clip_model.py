"""A loaded CLIP model: encodes images and captions as float32 vectors of norm 1."""

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from laion_assets.errors import EmbeddingError
from laion_assets.models.captions import clean_caption
from laion_assets.models.cuda_graph import record_graph
from laion_assets.models.pools import Pools
from laion_assets.models.preprocessing import read_preprocessing
from laion_assets.models.text_tower import short_text_encoder
from laion_assets.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

_MAX_GRAPHS = 4
"""Maximum number of recorded graphs; each keeps its memory."""
_ROWS_AT_ONCE_ON_CPU = 256
"""Rows that a CPU encodes at once: the layers' outputs of more do not fit its caches. With fewer rows, torch's threads
wait for each other too often while other threads decode."""
MIN_NORM = 1e-6
"""A vector with a smaller norm counts as zero: it has no direction."""


class ClipModel:
    """A loaded CLIP model; built by `load_model`. Only `preprocess` and `tokenize` are thread-safe.

    `preprocessing` is the image transform as numbers, None if its steps are unknown. `shortens` is True if a batch of
    captions can be truncated to its longest. `cores` is the number of torch's threads; the last bits of sums depend on
    it.
    """

    def __init__(
        self,
        identity: str,
        model: Any,
        preprocess: Callable[["Image.Image"], Any],
        tokenizer: Callable[[list[str]], Any],
        device: str,
        precision: str,
        pools: Pools | None = None,
    ) -> None:
        import torch

        self.cores = torch.get_num_threads()
        self.identity = identity
        self.device = device
        self.precision = precision
        self.preprocessing = read_preprocessing(preprocess)
        self.tokenize = Tokenizer(tokenizer)
        self._model = model
        self._preprocess = preprocess
        short = short_text_encoder(model)
        self.shortens = short is not None
        self._encode_text: Callable[[Any], Any] = short or model.encode_text
        self._at_once = 1 << 30 if self.on_gpu else _ROWS_AT_ONCE_ON_CPU
        self.pools = pools or Pools()
        self._graphs: dict[tuple[int, ...], Callable[[torch.Tensor], torch.Tensor]] = {}
        self.width = int(self.encode_texts(["an image"]).shape[1])

    def preprocess(self, image: "Image.Image") -> "torch.Tensor":
        """Preprocess an image for the model: (3, h, w) float32. Safe to call from many threads."""
        import torch

        pixels = self._preprocess(image)
        return pixels.reshape(pixels.shape[-3:]).to(torch.float32)

    def encode_images(self, batch: "torch.Tensor", names: Sequence[str] | None = None) -> "np.ndarray":
        """Encode (n, 3, h, w) float32 images as (n, width) float32 vectors of norm 1.

        A batch that does not fit the GPU's memory is halved until it does, for this call and the next ones. Raises
        EmbeddingError for vectors that are zero or not finite, naming their rows (by `names` if given).
        """
        return self._normalize(self.image_vectors(batch), "image", names)

    def encode_texts(self, texts: Sequence[str], names: Sequence[str] | None = None) -> "np.ndarray":
        """Encode n captions as (n, width) float32 vectors of norm 1. Captions may be empty, long, and in any script.

        Captions are truncated to the model's context length. Raises EmbeddingError like `encode_images`.
        """
        import torch

        tokens = self.tokenize([clean_caption(text) for text in texts])
        return self._normalize(self.text_vectors(torch.from_numpy(tokens)), "caption", names)

    def image_vectors(self, batch: "torch.Tensor") -> "torch.Tensor":
        """Encode (n, 3, h, w) preprocessed images of any float type: (n, width) float32 on the device, any norm."""
        return self._encode(batch, self._encode_image, "image")

    def text_vectors(self, tokens: "torch.Tensor") -> "torch.Tensor":
        """Encode (n, length) tokens, of any length if `shortens`: (n, width) float32 on the device, any norm."""
        return self._encode(tokens, self._encode_text, "caption")

    def pixel_vectors(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Encode (n, h, w, 3) uint8 RGB pixels on the device: (n, width) float32 on the device, any norm.

        Requires `preprocessing`.
        """
        return self._encode(pixels, self._encode_pixels, "image")

    def graphed_pixel_vectors(self, rows: int, height: int, width: int) -> "Callable[[torch.Tensor], torch.Tensor]":
        """Return a function like `pixel_vectors` for at most `rows` images of this size; one launch on a GPU.

        The hundreds of kernels of an encoder are recorded once as a CUDA graph. Launched one by one, each would wait
        for the interpreter lock that the decoding threads share. If a graph does not fit the GPU's memory, the function
        is `pixel_vectors` itself.
        """
        import torch

        shape = (rows, height, width, 3)
        if not self.on_gpu:
            return self.pixel_vectors
        if shape not in self._graphs:
            if len(self._graphs) >= _MAX_GRAPHS:
                return self.pixel_vectors
            try:
                self._graphs[shape] = record_graph(self._encode_pixels, shape, self.device)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                self._graphs[shape] = self.pixel_vectors
        return self._graphs[shape]

    @property
    def on_gpu(self) -> bool:
        """Whether the model is on a GPU, which works in parallel with the calling thread."""
        import torch

        return torch.device(self.device).type == "cuda"

    def select_device(self) -> contextlib.AbstractContextManager[Any]:
        """Make the model's GPU the current device of the calling thread: new streams, events and graphs belong to it.

        Without this, the streams of a model on cuda:1 would be those of cuda:0, and no copy would be waited for.
        """
        import torch

        return torch.cuda.device(torch.device(self.device)) if self.on_gpu else contextlib.nullcontext()

    @property
    def description(self) -> dict[str, str]:
        """The properties that the bytes of a vector depend on, besides its input."""
        import torch

        kind = torch.cuda.get_device_name(self.device) if self.on_gpu else "cpu"
        return {"model": self.identity, "precision": self.precision, "device": kind, "torch": torch.__version__}

    def close(self) -> None:
        """Stop the processes that prepare shards and decode images."""
        with self.select_device():
            self.pools.close()

    @property
    def _dtype(self) -> "torch.dtype":
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision]

    def _encode_pixels(self, pixels: "torch.Tensor") -> Any:
        assert self.preprocessing is not None
        return self._encode_image(self.preprocessing.normalize(self.preprocessing.resize(pixels), self._dtype))

    def _encode_image(self, batch: "torch.Tensor") -> Any:
        return self._model.encode_image(batch.to(self._dtype))

    def _encode(self, inputs: "torch.Tensor", encoder: Callable[[Any], Any], noun: str) -> "torch.Tensor":
        import torch

        parts = []
        start = 0
        with torch.inference_mode():
            while start < len(inputs):
                part = inputs[start : start + self._at_once]
                try:
                    parts.append(encoder(part.to(self.device)).float())
                except torch.cuda.OutOfMemoryError as error:
                    if len(part) == 1:
                        raise EmbeddingError(
                            f"A single {noun} does not fit into the memory of {self.device}. Free memory on the GPU, "
                            "or set embeddings.device to another GPU or to cpu."
                        ) from error
                    self._at_once = len(part) // 2
                    torch.cuda.empty_cache()
                    continue
                start += len(part)
            if not parts:
                return torch.zeros((0, self.width), device=self.device)
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _normalize(self, encoded: "torch.Tensor", noun: str, names: Sequence[str] | None) -> "np.ndarray":
        import numpy as np

        vectors = encoded.cpu().numpy()
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] < MIN_NORM))
        if len(bad):
            raise no_direction_error(
                self.identity, noun, [names[row] if names else f"row {row}" for row in bad], len(vectors)
            )
        return (vectors / norms).astype(np.float32)


def no_direction_error(model: str, noun: str, names: Sequence[str], rows: int) -> EmbeddingError:
    """Return the error for vectors without direction: those of the samples `names`, among `rows`."""
    return EmbeddingError(
        f"{model} returned a vector that is zero or not finite for {len(names):,} of {rows:,} {noun}s: "
        f"{', '.join(names[:10])}{' and more' if len(names) > 10 else ''}. Check the weights. If embeddings.precision "
        "is fp16, set it to fp32 or bf16."
    )
