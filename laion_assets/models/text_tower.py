"""Encode captions that are shorter than the model's context, if the vectors are the same.

In a causal text tower a token attends only to the tokens before it. CLIP takes the vector at the end-of-text token,
which has the highest id (Radford et al. 2021, section 2.4). Tokens after it have no effect, so a batch can be truncated
to its longest caption: most captions have 10 to 30 tokens, and the context has 77.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

LENGTH_STEP = 8
"""Truncated lengths are multiples of this: few shapes, and shapes that suit matrix units."""


def caption_lengths(tokens: "np.ndarray") -> "np.ndarray":
    """Count the tokens of each caption up to its end-of-text token, the highest id: (n, context) to (n,)."""
    return tokens.argmax(axis=1) + 1


def truncated_length(longest: int, context: int) -> int:
    """Return the length to truncate a batch to, if its longest caption has `longest` tokens."""
    return min(-(-longest // LENGTH_STEP) * LENGTH_STEP, context)


def short_text_encoder(model: Any) -> "Callable[[torch.Tensor], torch.Tensor] | None":
    """Return a function like `model.encode_text` for (n, length) tokens of any length; None if it would not be exact.

    It is exact for causal towers that are pooled at the end-of-text token: OpenAI's, open_clip's `CLIP` and
    `CustomTextCLIP` with such a tower, and transformers' CLIP.
    """
    if type(model).__module__.startswith("clip.") and hasattr(model, "build_attention_mask"):
        return _openai_encoder(model)
    if type(model).__module__.startswith("open_clip"):
        tower = getattr(model, "text", None)
        if tower is None:
            return _open_clip_encoder(model) if _is_causal(model, model.text_pool_type) else None
        if getattr(tower, "cls_emb", None) is None and _is_causal(tower, getattr(tower, "pool_type", "")):
            return _open_clip_encoder(tower)
        return None
    if type(model).__name__ == "CLIPModel":
        features: Callable[[torch.Tensor], torch.Tensor] = model.get_text_features
        return features
    return None


def _is_causal(tower: Any, pool_type: str) -> bool:
    return pool_type == "argmax" and getattr(tower, "attn_mask", None) is not None


def _open_clip_encoder(tower: Any) -> "Callable[[torch.Tensor], torch.Tensor]":
    def encode(tokens: "torch.Tensor") -> "torch.Tensor":
        import torch

        dtype = tower.transformer.get_cast_dtype()
        length = tokens.shape[1]
        hidden = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
        hidden = tower.transformer(hidden, attn_mask=tower.attn_mask[:length, :length])
        pooled = tower.ln_final(hidden)[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]
        projection = tower.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, torch.nn.Linear) else pooled @ projection

    return encode


def _openai_encoder(model: Any) -> "Callable[[torch.Tensor], torch.Tensor]":
    mask = model.build_attention_mask()

    def encode(tokens: "torch.Tensor") -> "torch.Tensor":
        import torch

        length = tokens.shape[1]
        for block in model.transformer.resblocks:
            block.attn_mask = mask[:length, :length]
        hidden = model.token_embedding(tokens).type(model.dtype) + model.positional_embedding[:length].type(model.dtype)
        hidden = model.transformer(hidden.permute(1, 0, 2)).permute(1, 0, 2)
        hidden = model.ln_final(hidden).type(model.dtype)
        pooled: torch.Tensor = hidden[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=-1)]
        return pooled @ model.text_projection

    return encode
