"""A model's tokenizer with bounded memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_MAX_CACHED_WORDS = 100_000
"""CLIP's tokenizers keep every word they ever saw; over millions of captions that memory has no end."""


class Tokenizer:
    """Captions to (n, context) int32 tokens; picklable where the model's own tokenizer is."""

    def __init__(self, tokenizer: Callable[[list[str]], Any]) -> None:
        self._tokenizer = tokenizer

    def __call__(self, captions: list[str]) -> "np.ndarray":
        """Tokenize captions of at most a few thousand characters (`captions.cleaned`)."""
        import numpy as np

        tokens = np.asarray(self._tokenizer(captions)).astype(np.int32)
        self._trim()
        return tokens

    def _trim(self) -> None:
        for owner in (self._tokenizer, _openai_tokenizer()):
            words = getattr(owner, "cache", None)
            if isinstance(words, dict) and len(words) > _MAX_CACHED_WORDS:
                special = {word: word for word, value in words.items() if word == value and word.startswith("<")}
                words.clear()
                words.update(special)


def openai_tokenize(captions: list[str]) -> Any:
    """OpenAI's tokenizer, which OpenAI's models and transformers' CLIP use: all_clip's own function, but picklable."""
    import clip

    return clip.tokenize(captions, truncate=True)


def _openai_tokenizer() -> Any:
    """The tokenizer that OpenAI's `clip.tokenize` keeps, once it is loaded."""
    import sys

    return getattr(sys.modules.get("clip.clip"), "_tokenizer", None)
