"""Tiny models with random weights, one for each package that builds models."""

import json
from pathlib import Path
from typing import Any

import torch

from laion_assets.models.model_packages import import_clip
from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.models.torchvision_shim import ensure_torchvision

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


def save_sentence_tokenizer(folder: Path, kind: str) -> None:
    """Save a tokenizer as SigLIP's (`unigram`, padded with the end token) or SigLIP 2's (`bpe`, padded with 0)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    texts = ["a red circle left of a blue square", "the small house by the river", "星の夜", "boats and old trees"] * 20
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>")
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    else:
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        trainer = trainers.BpeTrainer(vocab_size=160, special_tokens=special)
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    pad = "</s>" if kind == "unigram" else "<pad>"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, eos_token="</s>", unk_token="<unk>", model_input_names=["input_ids"]
    ).save_pretrained(folder)


def hugging_face_siglip(folder: Path, kind: str = "unigram") -> str:
    """Save a transformers SigLIP with 48 px images and vectors of width 32; return its name."""
    ensure_torchvision()
    from transformers import AutoTokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    save_sentence_tokenizer(folder, kind)
    text = {**_SMALL, "vocab_size": 200, "max_position_embeddings": 64, "projection_size": 32}
    vision = {**_SMALL, "image_size": 48, "patch_size": 8}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
        # So that the vector at the last position depends on the others: most captions end in many equal tokens.
        model.text_model.embeddings.token_embedding.weight.mul_(10)
        model.text_model.embeddings.position_embedding.weight.mul_(0.1)
        for layer in model.text_model.encoder.layers:
            layer.self_attn.out_proj.weight.mul_(30)
    model.save_pretrained(folder)
    processor = SiglipImageProcessor(size={"height": 48, "width": 48})
    SiglipProcessor(processor, AutoTokenizer.from_pretrained(folder)).save_pretrained(folder)
    return f"hf_clip:{folder}"


def open_clip_siglip(folder: Path, kind: str = "unigram") -> tuple[str, Path]:
    """Register an open_clip architecture as SigLIP's, with the tag `webli`; return its name and its checkpoint.

    The tokenizer of the architecture is in `folder`/tokenizer.
    """
    from safetensors.torch import save_file

    name = f"laion-assets-siglip-{kind}"
    folder.mkdir(exist_ok=True)
    save_sentence_tokenizer(folder / "tokenizer", kind)
    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False}
    text = {"context_length": 64, "vocab_size": 200, "width": 64, "heads": 2, "layers": 2, "pool_type": "last"}
    configuration = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {**vision, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {
            **text,
            "hf_tokenizer_name": str(folder / "tokenizer"),
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True,
            "proj_bias": True,
            "norm_kwargs": {"eps": 1e-6},
        },
    }
    (folder / f"{name}.json").write_text(json.dumps(configuration), encoding="utf-8")
    import_open_clip().add_model_config(folder / f"{name}.json")
    open_clip: Any = import_open_clip(name)
    torch.manual_seed(0)
    model = open_clip.create_model(name)
    with torch.no_grad():
        model.visual.trunk.patch_embed.proj.weight.mul_(10)
        model.text.token_embedding.weight.mul_(60)
        # So that the vector at the last position depends on the others: most captions end in many equal tokens.
        for block in model.text.transformer.resblocks:
            block.attn.in_proj_weight.mul_(5)
            block.attn.out_proj.weight.mul_(10)
    (folder / "weights").mkdir()
    checkpoint = folder / "weights" / "open_clip_model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, checkpoint)
    tags = open_clip.pretrained
    tags._PRETRAINED[name] = {"webli": tags._slpcfg(file=str(checkpoint))}
    return name, checkpoint


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
