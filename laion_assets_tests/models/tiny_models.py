"""Tiny models with random weights, one for each package that builds models."""

import json
from pathlib import Path

import torch

from laion_assets.models.model_packages import import_clip

_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def hugging_face_folder(folder: Path) -> str:
    """Save a transformers CLIP with 32 px images and vectors of width 16; return its clip-retrieval name."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    config = CLIPConfig(
        text_config=_SMALL | {"eos_token_id": 49407},
        vision_config=_SMALL | {"image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    (folder / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}', encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}', encoding="utf-8")
    return f"hf_clip:{folder}"


def openai_checkpoint(folder: Path) -> str:
    """Save a CLIP of OpenAI's package with 32 px images and vectors of width 16; return its path, which is a name."""
    import_clip()
    from clip.model import CLIP

    torch.manual_seed(0)
    # OpenAI's package derives the number of heads from the width: one for every 64.
    model = CLIP(16, 32, 2, 64, 8, 77, 49_408, 64, 1, 2)
    torch.save(model.state_dict(), folder / "openai.pt")
    return str(folder / "openai.pt")


def architecture_with_hugging_face_text(folder: Path) -> Path:
    """Write the configuration of an open_clip architecture whose text tower is a BERT in `folder`; return its path."""
    from transformers import BertConfig

    BertConfig(vocab_size=100, **_SMALL).save_pretrained(folder)
    path = folder / "laion-assets-bert.json"
    configuration = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 64, "head_width": 32},
        "text_cfg": {"hf_model_name": str(folder), "hf_model_pretrained": False, "hf_pooler_type": "mean_pooler"},
    }
    path.write_text(json.dumps(configuration), encoding="utf-8")
    return path
