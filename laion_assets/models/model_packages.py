"""Build a CLIP model with the one package that its name asks for.

The names are clip-retrieval's, and so are the models: its loader, all_clip, makes the same calls.

| name | package | weights |
|---|---|---|
| `ViT-B/32` | clip (OpenAI's) | OpenAI's, fetched once into `~/.cache/clip` |
| `open_clip:ARCH/TAG` | open_clip | fetched once from the tag's hub |
| `open_clip:ARCH//absolute/path` | open_clip | a local checkpoint |
| `hf_clip:DIR` | transformers, and clip for the tokenizer | a local folder, or a name on the Hugging Face hub |

all_clip itself loads the names that need packages outside of this project (`nm:`, `ja_clip:`).
"""

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.models.tokenizer import openai_tokenize
from laion_assets.models.torchvision_shim import ensure_torchvision

if TYPE_CHECKING:
    import torch
    from PIL import Image


class PackageModel(NamedTuple):
    """A model as its package builds it: image transform and tokenizer included."""

    model: Any
    preprocess: "Callable[[Image.Image], torch.Tensor]"
    tokenizer: Callable[[list[str]], Any]


def build_model(name: str, device: str) -> PackageModel:
    """Build the model of this clip-retrieval name on a device. Raises the errors of its package."""
    prefix, _, rest = name.partition(":")
    if prefix == "open_clip":
        return _build_with_open_clip(rest, device)
    if prefix == "hf_clip":
        return _build_with_transformers(rest, device)
    if prefix in ("nm", "ja_clip"):
        return _build_with_all_clip(name, device)
    return _build_with_clip(name.removeprefix("openai_clip:"), device)


def import_clip() -> ModuleType:
    """Import OpenAI's package `clip`."""
    ensure_torchvision()
    with warnings.catch_warnings():
        # clip imports pkg_resources, which warns of its own removal; setup.cfg pins a setuptools that still has it.
        warnings.simplefilter("ignore", UserWarning)
        import clip
    return clip


def _build_with_open_clip(name: str, device: str) -> PackageModel:
    architecture, _, pretrained = name.partition("/")
    open_clip = import_open_clip(architecture)
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    if not pretrained:
        pretrained = dict(open_clip.list_pretrained())[architecture]
    model, _, preprocess = open_clip.create_model_and_transforms(architecture, pretrained=pretrained, device=device)
    return PackageModel(model, preprocess, open_clip.get_tokenizer(architecture))


def _build_with_transformers(name: str, device: str) -> PackageModel:
    import_clip()
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(name).to(device)
    model.encode_image, model.encode_text = model.get_image_features, model.get_text_features
    processor: Any = CLIPProcessor.from_pretrained(name)

    def preprocess(image: "Image.Image") -> "torch.Tensor":
        pixels: torch.Tensor = processor.image_processor(image, return_tensors="pt").pixel_values
        return pixels

    return PackageModel(model, preprocess, openai_tokenize)


def _build_with_clip(name: str, device: str) -> PackageModel:
    model, preprocess = import_clip().load(name, device=device, jit=False)
    return PackageModel(model, preprocess, openai_tokenize)


def _build_with_all_clip(name: str, device: str) -> PackageModel:
    import_clip()
    from all_clip.main import load_clip_without_warmup

    # Past the cache, which would hold every model ever loaded in this process.
    model, preprocess, tokenizer = load_clip_without_warmup.__wrapped__(name, False, device, None)
    return PackageModel(model, preprocess, tokenizer)
