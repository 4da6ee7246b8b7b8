"""Build a CLIP model with the one package that its name asks for.

The names are clip-retrieval's, and so are the models: its loader, all_clip, makes the same calls.

| name | package | weights |
|---|---|---|
| `ViT-B/32` | clip (OpenAI's) | OpenAI's, fetched once into `~/.cache/clip` |
| `open_clip:ARCH/TAG` | open_clip | fetched once from the tag's hub |
| `open_clip:ARCH//absolute/path` | open_clip | a local checkpoint |
| `hf_clip:DIR` | transformers; for CLIP also clip's tokenizer | a local folder, or a name on the Hugging Face hub |

`hf_clip:DIR` is a CLIP or a SigLIP. SigLIP 2 has the same model type, except for its NaFlex variants. Two models differ
from all_clip's: a SigLIP folder, which all_clip builds as a CLIP, and a local checkpoint of an open_clip architecture
whose images are not preprocessed like OpenAI's, such as SigLIP's (see `_preprocessing_of_tags`).

all_clip itself loads the names that need packages outside of this project (`nm:`, `ja_clip:`).
"""

import os
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.models.preprocessing import ProcessorTransform
from laion_assets.models.tokenizer import HuggingFaceTokenizer, openai_tokenize
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
    is_local = os.path.isabs(pretrained)
    preprocessing = _preprocessing_of_tags(architecture) if is_local else {}
    model, _, preprocess = open_clip.create_model_and_transforms(
        architecture, pretrained=pretrained, device=device, **preprocessing
    )
    text = open_clip.get_model_config(architecture).get("text_cfg", {})
    folder = os.path.dirname(pretrained)
    if text.get("hf_tokenizer_name") and is_local and os.path.exists(os.path.join(folder, "tokenizer_config.json")):
        # A folder as it is on the hub: with its tokenizer, nothing is downloaded.
        tokenizer = open_clip.tokenizer.HFTokenizer(
            folder, context_length=text.get("context_length"), **text.get("tokenizer_kwargs", {})
        )
    else:
        tokenizer = open_clip.get_tokenizer(architecture)
    return PackageModel(model, preprocess, tokenizer)


def _preprocessing_of_tags(architecture: str) -> dict[str, Any]:
    """Return the image preprocessing that all tags of an open_clip architecture share, as options; else nothing.

    open_clip knows it by tag. For a local checkpoint it would use OpenAI's, which for SigLIP is wrong: its images are
    squashed to a square and normalized with mean and deviation 0.5.
    """
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    names = ("mean", "std", "interpolation", "resize_mode")
    known = {
        tuple(get_pretrained_cfg(architecture, tag).get(name) for name in names)
        for tag in list_pretrained_tags_by_model(architecture)
    }
    if len(known) != 1:
        return {}
    return {f"image_{name}": value for name, value in zip(names, known.pop(), strict=True) if value is not None}


def _build_with_transformers(name: str, device: str) -> PackageModel:
    ensure_torchvision()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name)
    if config.model_type == "clip":
        return _build_transformers_clip(name, device)
    if config.model_type == "siglip":
        return _build_transformers_siglip(name, device, config.text_config.max_position_embeddings)
    raise ValueError(
        f"its transformers model type is {config.model_type!r}, and hf_clip supports 'clip' and 'siglip' (SigLIP, and "
        "SigLIP 2 with a fixed image size)."
    )


def _build_transformers_clip(name: str, device: str) -> PackageModel:
    import_clip()
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(name).to(device)
    model.encode_image, model.encode_text = model.get_image_features, model.get_text_features
    processor: Any = CLIPProcessor.from_pretrained(name)
    return PackageModel(model, ProcessorTransform(processor.image_processor), openai_tokenize)


def _build_transformers_siglip(name: str, device: str, context: int) -> PackageModel:
    from transformers import AutoImageProcessor, AutoTokenizer, SiglipModel

    model = SiglipModel.from_pretrained(name).to(device)
    model.encode_image, model.encode_text = model.get_image_features, model.get_text_features
    processors: tuple[Any, Any] = AutoImageProcessor, AutoTokenizer
    transform = ProcessorTransform(processors[0].from_pretrained(name, use_fast=False))
    # The text tower takes its vector at the last position, so captions are always padded to the whole context.
    return PackageModel(model, transform, HuggingFaceTokenizer(processors[1].from_pretrained(name), context))


def _build_with_clip(name: str, device: str) -> PackageModel:
    model, preprocess = import_clip().load(name, device=device, jit=False)
    return PackageModel(model, preprocess, openai_tokenize)


def _build_with_all_clip(name: str, device: str) -> PackageModel:
    import_clip()
    from all_clip.main import load_clip_without_warmup

    # Past the cache, which would hold every model ever loaded in this process.
    model, preprocess, tokenizer = load_clip_without_warmup.__wrapped__(name, False, device, None)
    return PackageModel(model, preprocess, tokenizer)
