"""Captions truncated after their last token have the same vectors as with the whole context."""

from typing import Any

import numpy as np
import pytest
import torch

from laion_assets.models.text_tower import caption_lengths, short_text_encoder, truncated_length
from laion_assets_tests.stages.clip_embeddings.small_dataset import random_model, register

register()
CAPTIONS = ["", "a red circle", "a photo of the small red house by a river with blue boats and old trees " * 2, "!!!"]
TEXT = {"context_length": 77, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 2}
VISION = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}


def open_clip_model() -> Any:
    from open_clip import CLIP

    return CLIP(16, vision_cfg=VISION, text_cfg=TEXT)


def custom_text_model() -> Any:
    from open_clip import CustomTextCLIP

    return CustomTextCLIP(16, vision_cfg=VISION, text_cfg=TEXT)


def openai_model() -> Any:
    from clip.model import CLIP

    return CLIP(16, 32, 1, 64, 16, 77, 49_408, 32, 2, 2).float()


def transformers_model() -> Any:
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPModel(
        CLIPConfig(text_config={**small, "eos_token_id": 49_407}, vision_config={**small, "image_size": 32})
    )


def tokens_of(captions: list[str]) -> np.ndarray:
    import open_clip

    return open_clip.get_tokenizer("ViT-B-32")(captions).numpy().astype(np.int32)


@pytest.mark.parametrize("make", [open_clip_model, custom_text_model, openai_model, transformers_model])
def test_a_truncated_batch_has_the_same_vectors(make: Any) -> None:
    torch.manual_seed(3)
    model = make().eval()
    whole = getattr(model, "encode_text", None) or model.get_text_features
    encode = short_text_encoder(model)
    assert encode is not None
    tokens = tokens_of(CAPTIONS)
    with torch.inference_mode():
        expected = whole(torch.from_numpy(tokens))
        for row, length in enumerate(caption_lengths(tokens)):
            cut = truncated_length(int(length), 77)
            found = encode(torch.from_numpy(tokens[row : row + 1, :cut]))
            torch.testing.assert_close(found, expected[row : row + 1], atol=1e-5, rtol=1e-4)
        # The comparison means something: the captions' vectors differ.
        assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_the_length_of_a_caption_ends_with_its_last_token() -> None:
    assert caption_lengths(tokens_of(["", "a red circle", "! ! !"])).tolist() == [2, 5, 5]
    assert [truncated_length(longest, 77) for longest in (1, 8, 9, 73, 77)] == [8, 8, 16, 77, 77]


@pytest.mark.parametrize("changed", [{"pool_type": "last"}, {"no_causal_mask": True}])
def test_towers_that_attend_to_later_tokens_are_not_truncated(changed: dict[str, Any]) -> None:
    from open_clip import CLIP

    assert short_text_encoder(CLIP(16, vision_cfg=VISION, text_cfg={**TEXT, **changed})) is None


def test_coca_and_siglip_are_not_truncated() -> None:
    import open_clip

    model = open_clip.create_model("coca_base") if "coca_base" in open_clip.list_models() else None
    assert model is None or short_text_encoder(model) is None
    assert short_text_encoder(object()) is None


def test_captions_of_the_tests_model_are_truncated_with_the_same_vectors_in_any_batch() -> None:
    model = random_model()
    assert model.shortens
    together = model.encode_texts(CAPTIONS)
    alone = np.concatenate([model.encode_texts([caption]) for caption in CAPTIONS])
    assert (together * alone).sum(axis=1).min() > 0.9999
