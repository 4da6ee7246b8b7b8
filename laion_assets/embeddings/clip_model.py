"""CLIP models by clip-retrieval's names, giving float32 vectors of norm 1.

Models are built by all_clip, the loader of clip-retrieval, so that a name means the same here and there. Two things
differ: weights that cannot be had are a ModelError with the way out, and `precision` decides the arithmetic (all_clip
alone takes bfloat16 on every GPU).
"""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from laion_assets.datasets import SAMPLE_MODEL
from laion_assets.embeddings.captions import cleaned
from laion_assets.embeddings.weights import weights_identity
from laion_assets.errors import EmbeddingError, ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

MIN_NORM = 1e-6
"""A shorter vector has no direction: it counts as zero."""
_MAX_CACHED_WORDS = 100_000
"""CLIP's tokenizers keep each word they ever saw; over millions of captions that is memory without end."""


class ClipModel:
    """A loaded CLIP model; made by `load_model`. Not thread-safe but for `preprocess`."""

    def __init__(
        self,
        identity: str,
        model: Any,
        preprocess: Callable[["Image.Image"], Any],
        tokenizer: Callable[[list[str]], Any],
        device: str,
        precision: str,
    ) -> None:
        self.identity = identity
        self.device = device
        self.precision = precision
        self._model = model
        self._preprocess = preprocess
        self._tokenizer = tokenizer
        self._at_once = 1 << 30
        self.width = int(self.encode_texts(["a picture"]).shape[1])

    def preprocess(self, image: "Image.Image") -> "torch.Tensor":
        """The picture as the model wants it: (3, h, w) float32. Safe to call from many threads."""
        import torch

        pixels = self._preprocess(image)
        return pixels.reshape(pixels.shape[-3:]).to(torch.float32)

    def encode_images(self, batch: "torch.Tensor", names: Sequence[str] | None = None) -> "np.ndarray":
        """(n, 3, h, w) float32 to (n, width) float32, rows of norm 1.

        A batch that does not fit the GPU's memory is halved until it does, for this call and the next ones. Raises
        EmbeddingError for vectors that are not finite or zero, naming their rows, by `names` where it is given.
        """
        return self._encode(batch, self._model.encode_image, "picture", names)

    def encode_texts(self, texts: Sequence[str], names: Sequence[str] | None = None) -> "np.ndarray":
        """n captions of any script and length, empty ones too, to (n, width) float32, rows of norm 1.

        Captions are cut at the model's context length. Raises EmbeddingError as `encode_images`.
        """
        tokens = self._tokenizer([cleaned(text) for text in texts])
        self._trim_tokenizer()
        return self._encode(tokens, self._model.encode_text, "caption", names)

    def _encode(
        self, inputs: Any, encoder: Callable[[Any], Any], noun: str, names: Sequence[str] | None
    ) -> "np.ndarray":
        import numpy as np
        import torch

        with torch.inference_mode(), self._arithmetic():
            parts = list(self._parts(inputs, encoder, noun))
        if not parts:
            return np.zeros((0, self.width), dtype=np.float32)
        vectors = np.concatenate(parts)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] < MIN_NORM))
        if len(bad):
            named = ", ".join(names[row] if names else f"row {row}" for row in bad[:10])
            raise EmbeddingError(
                f"{self.identity} gave a vector without direction (NaN, infinite or zero) for {len(bad)} of "
                f"{len(vectors)} {noun}s: {named}{' and more' if len(bad) > 10 else ''}. Check the weights, and set "
                "embeddings.precision to fp32 or bf16 where it is fp16."
            )
        return (vectors / norms).astype(np.float32)

    def _parts(self, inputs: Any, encoder: Callable[[Any], Any], noun: str) -> Iterator["np.ndarray"]:
        import torch

        start = 0
        while start < len(inputs):
            part = inputs[start : start + self._at_once]
            try:
                vectors = encoder(part.to(self.device)).float().cpu().numpy()
            except torch.cuda.OutOfMemoryError as error:
                if len(part) == 1:
                    raise EmbeddingError(
                        f"one {noun} alone does not fit the memory of {self.device}: free the GPU, or set "
                        "embeddings.device to another one or cpu."
                    ) from error
                self._at_once = len(part) // 2
                torch.cuda.empty_cache()
                continue
            yield vectors
            start += len(part)

    def _arithmetic(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        if self.precision == "fp32":
            return contextlib.nullcontext()
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(torch.device(self.device).type, dtype=kind)

    def _trim_tokenizer(self) -> None:
        for owner in (self._tokenizer, _openai_tokenizer()):
            words = getattr(owner, "cache", None)
            if isinstance(words, dict) and len(words) > _MAX_CACHED_WORDS:
                special = {word: word for word, value in words.items() if word == value and word.startswith("<")}
                words.clear()
                words.update(special)


def load_model(name: str, device: str = "auto", precision: str = "fp32") -> ClipModel:
    """The model of this name: `ViT-B/32`, `open_clip:ARCH/TAG`, `open_clip:ARCH//checkpoint`, `hf_clip:DIR`,
    `sample-clip`.

    `device` is `auto`, `cpu`, `cuda` or `cuda:N`; `precision` `fp32`, `bf16` or `fp16` (a GPU's matrix products of fp32
    use TF32, as all_clip sets it). Raises ModelError if the weights cannot be had, or the device is not there.
    """
    # Before torch is loaded: its OpenMP threads otherwise wait for the next product by burning their cores, which
    # beside other work on two cores (fetching, decoding) doubled and tripled the CPU of an embedding file.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from laion_assets.embeddings.torchvision_shim import ensure_torchvision
    from laion_assets.sample.clip.model import ARCHITECTURE, clip_retrieval_name, register

    ensure_torchvision()
    identity = weights_identity(name)
    place = _device(device)
    if precision != "fp32" and place == "cpu":
        raise ModelError(f"precision {precision} is for GPUs and the device is cpu: set embeddings.precision to fp32.")
    known_as = clip_retrieval_name() if name == SAMPLE_MODEL else name
    if known_as.startswith(f"open_clip:{ARCHITECTURE}/"):
        register()
    with warnings.catch_warnings():
        # clip-anytorch imports pkg_resources, which says at length that it will go; setup.cfg pins what still has it.
        warnings.simplefilter("ignore", UserWarning)
        from all_clip.main import load_clip_without_warmup

    try:
        # Past the cache, which would hold every model ever loaded in this process.
        model, preprocess, tokenizer = load_clip_without_warmup.__wrapped__(known_as, False, place, None)
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0][:300] if lines else type(error).__name__
        raise ModelError(
            f"the model {name} cannot be loaded: {type(error).__name__}: {reason}. Weights named by a tag are fetched "
            "once from their hub: allow that, copy the hub's cache to this machine, or set the dataset's model to "
            "local weights, open_clip:ARCH//absolute/path or hf_clip:DIR."
        ) from error
    # OpenAI's models come in float16 on a GPU, and all_clip's wrappers cast by themselves; `precision` decides here.
    model = getattr(model, "inner_model", model).float().eval().requires_grad_(False)
    if not hasattr(model, "encode_image"):
        model.encode_image, model.encode_text = model.get_image_features, model.get_text_features
    return ClipModel(identity, model, preprocess, tokenizer, place, precision)


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"embeddings.device is {device!r}, which is not there: {reason}. Use auto or cpu.") from error
    return device


def _openai_tokenizer() -> Any:
    """The tokenizer that OpenAI's `clip.tokenize` keeps, once it is loaded."""
    import sys

    return getattr(sys.modules.get("clip.clip"), "_tokenizer", None)
