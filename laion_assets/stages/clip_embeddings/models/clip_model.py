"""A loaded CLIP model: encodes images and captions as float32 vectors of norm 1."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from laion_assets.errors import EmbeddingError
from laion_assets.stages.clip_embeddings.models.captions import cleaned
from laion_assets.stages.clip_embeddings.models.cuda_graph import record_graph
from laion_assets.stages.clip_embeddings.models.preprocessing import read_preprocessing
from laion_assets.stages.clip_embeddings.models.text_tower import short_text_encoder
from laion_assets.stages.clip_embeddings.models.tokenizer import Tokenizer
from laion_assets.stages.clip_embeddings.pipeline.decoder_pool import DecoderPool
from laion_assets.stages.clip_embeddings.pipeline.shard_preparation import Preparation

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

_MAX_GRAPHS = 4
"""Recorded graphs; each keeps its memory."""
MIN_NORM = 1e-6
"""A shorter vector has no direction: it counts as zero."""


class ClipModel:
    """A loaded CLIP model; made by `load_model`. Not thread-safe but for `preprocess` and `tokenize`.

    `preprocessing` is the image transform as numbers, None where its steps are unknown; `shortens` tells that captions
    can be cut behind their longest; `cores` is the number of torch's threads, on which the last bits of sums depend.
    """

    def __init__(
        self,
        identity: str,
        model: Any,
        preprocess: Callable[["Image.Image"], Any],
        tokenizer: Callable[[list[str]], Any],
        device: str,
        precision: str,
        preparation: Preparation | None = None,
        decoders: DecoderPool | None = None,
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
        self._at_once = 1 << 30
        self.preparation = preparation
        self.decoders = decoders
        self._graphs: dict[tuple[int, ...], Callable[[torch.Tensor], torch.Tensor]] = {}
        self.width = int(self.encode_texts(["a picture"]).shape[1])

    def preprocess(self, image: "Image.Image") -> "torch.Tensor":
        """The image as the model wants it: (3, h, w) float32. Safe to call from many threads."""
        import torch

        pixels = self._preprocess(image)
        return pixels.reshape(pixels.shape[-3:]).to(torch.float32)

    def encode_images(self, batch: "torch.Tensor", names: Sequence[str] | None = None) -> "np.ndarray":
        """(n, 3, h, w) float32 to (n, width) float32, rows of norm 1.

        A batch that does not fit the GPU's memory is halved until it does, for this call and the next ones. Raises
        EmbeddingError for vectors that are not finite or zero, naming their rows, by `names` where it is given.
        """
        return self._normalized(self.image_vectors(batch), "image", names)

    def encode_texts(self, texts: Sequence[str], names: Sequence[str] | None = None) -> "np.ndarray":
        """n captions of any script and length, empty ones too, to (n, width) float32, rows of norm 1.

        Captions are cut at the model's context length. Raises EmbeddingError as `encode_images`.
        """
        import torch

        tokens = self.tokenize([cleaned(text) for text in texts])
        return self._normalized(self.text_vectors(torch.from_numpy(tokens)), "caption", names)

    def image_vectors(self, batch: "torch.Tensor") -> "torch.Tensor":
        """(n, 3, h, w) preprocessed images of any float type to (n, width) float32 on the device, of any norm."""
        return self._encode(batch, self._encode_image, "image")

    def text_vectors(self, tokens: "torch.Tensor") -> "torch.Tensor":
        """(n, length) tokens, of any length where `shortens`, to (n, width) float32 on the device, of any norm."""
        return self._encode(tokens, self._encode_text, "caption")

    def pixel_vectors(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """(n, h, w, 3) uint8 RGB pixels on the device to (n, width) float32 on the device, of any norm.

        Needs `preprocessing`.
        """
        return self._encode(pixels, self._encode_pixels, "image")

    def graphed_pixel_vectors(self, rows: int, height: int, width: int) -> "Callable[[torch.Tensor], torch.Tensor]":
        """A function like `pixel_vectors` for at most `rows` images of this size; on a GPU it is one launch.

        The hundreds of kernels of an encoder are recorded once as a CUDA graph: launched one by one, each waits for the
        interpreter lock that the decoding threads share. Without the memory for it, it is `pixel_vectors` itself.
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
        """Whether the model is on a GPU, whose work runs beside the thread that asks for it."""
        import torch

        return torch.device(self.device).type == "cuda"

    @property
    def description(self) -> dict[str, str]:
        """What the bytes of a vector depend on besides its input."""
        import torch

        kind = torch.cuda.get_device_name(self.device) if self.on_gpu else "cpu"
        return {"model": self.identity, "precision": self.precision, "device": kind, "torch": torch.__version__}

    def close(self) -> None:
        """End the processes that prepare shards and decode images."""
        for pool in (self.preparation, self.decoders):
            if pool is not None:
                pool.close()
        self.preparation = self.decoders = None

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
                            f"One {noun} alone does not fit the memory of {self.device}. Free the GPU, or set "
                            "embeddings.device to another one or cpu."
                        ) from error
                    self._at_once = len(part) // 2
                    torch.cuda.empty_cache()
                    continue
                start += len(part)
            if not parts:
                return torch.zeros((0, self.width), device=self.device)
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _normalized(self, encoded: "torch.Tensor", noun: str, names: Sequence[str] | None) -> "np.ndarray":
        import numpy as np

        vectors = encoded.cpu().numpy()
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] < MIN_NORM))
        if len(bad):
            raise no_direction(
                self.identity, noun, [names[row] if names else f"row {row}" for row in bad], len(vectors)
            )
        return (vectors / norms).astype(np.float32)


def no_direction(model: str, noun: str, names: Sequence[str], rows: int) -> EmbeddingError:
    """The error for vectors without direction: of the samples `names`, among `rows`."""
    return EmbeddingError(
        f"{model} gave a vector without direction (NaN, infinite or zero) for {len(names):,} of {rows:,} {noun}s: "
        f"{', '.join(names[:10])}{' and more' if len(names) > 10 else ''}. Check the weights, and set "
        "embeddings.precision to fp32 or bf16 if it is fp16."
    )
