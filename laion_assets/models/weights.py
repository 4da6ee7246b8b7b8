"""Identify a model in manifests without loading it."""

import hashlib
from functools import lru_cache
from pathlib import Path

from laion_assets.dataset.dataset import SAMPLE_MODEL
from laion_assets.errors import ModelError
from laion_assets.sample.clip.model import CHECKPOINT

_HF_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Weights of a Hugging Face folder, in the order in which transformers looks for them."""


def find_checkpoint(model: str) -> Path | None:
    """Return the local weights file of a model name; None for models that are named by a hub's tag."""
    if model == SAMPLE_MODEL:
        return CHECKPOINT
    if model.startswith("open_clip:") and "//" in model:
        return Path("/" + model.split("//", 1)[1])
    if model.startswith("hf_clip:/"):
        folder = Path(model.removeprefix("hf_clip:"))
        return next((path for name in _HF_WEIGHTS if (path := folder / name).exists()), folder / _HF_WEIGHTS[0])
    return None


def weights_identity(model: str) -> str:
    """Return a model's identity in manifests: its name, with the weights' sha256 in place of a local path.

    The same weights in another folder are the same model. Raises ModelError if the file is missing.
    """
    checkpoint = find_checkpoint(model)
    if checkpoint is None:
        return model
    architecture = "hf_clip" if model.startswith("hf_clip:") else model.split("//", 1)[0]
    return f"{architecture}@{_sha256(checkpoint)}"


@lru_cache(maxsize=8)
def _sha256(checkpoint: Path) -> str:
    try:
        with checkpoint.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"Model weights {checkpoint} cannot be read: {error.strerror}. Correct the dataset's setting `model`."
        ) from error
