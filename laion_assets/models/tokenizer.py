"""A model's tokenizer with bounded memory and time."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from laion_assets.models.captions import shorten_words

if TYPE_CHECKING:
    import numpy as np

_lock = threading.Lock()
"""Hugging Face's fast tokenizers fail if two threads use one of them ("Already borrowed")."""

_MAX_CACHED_WORDS = 100_000
"""CLIP's tokenizers cache every word. Over millions of captions that cache grows without limit."""


class Tokenizer:
    """Captions to (n, context) int32 tokens; picklable if the model's own tokenizer is."""

    def __init__(self, tokenizer: Callable[[list[str]], Any]) -> None:
        self._tokenizer = tokenizer

    def __call__(self, captions: list[str]) -> "np.ndarray":
        """Tokenize captions of at most `captions.MAX_CHARS` characters (`captions.clean_caption`)."""
        import numpy as np

        if not _is_hugging_face(self._tokenizer):
            captions = [shorten_words(caption) for caption in captions]
        with _lock:
            # A shard may be empty, and tokenizers of transformers fail without a caption.
            tokens = np.asarray(self._tokenizer(captions or [""]))[: len(captions)].astype(np.int32)
        self._trim()
        return tokens

    def _trim(self) -> None:
        for owner in (self._tokenizer, _openai_tokenizer()):
            words = getattr(owner, "cache", None)
            if isinstance(words, dict) and len(words) > _MAX_CACHED_WORDS:
                special = {word: word for word, value in words.items() if word == value and word.startswith("<")}
                words.clear()
                words.update(special)


class HuggingFaceTokenizer:
    """A tokenizer of transformers as a function: every caption is padded or truncated to `context` tokens."""

    def __init__(self, tokenizer: Any, context: int) -> None:
        self.tokenizer = tokenizer
        self._context = context

    def __call__(self, captions: list[str]) -> Any:
        """Tokenize captions: (n, context) int64."""
        encoded = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self._context, return_tensors="np"
        )
        return encoded["input_ids"]


def _is_hugging_face(tokenizer: Any) -> bool:
    """Whether it wraps a tokenizer of transformers: `HuggingFaceTokenizer`, or open_clip's `HFTokenizer`."""
    return hasattr(getattr(tokenizer, "tokenizer", None), "pad_token_id")


def openai_tokenize(captions: list[str]) -> Any:
    """Tokenize for OpenAI's models and transformers' CLIP, as all_clip does; unlike all_clip's function, picklable."""
    import clip

    return clip.tokenize(captions, truncate=True)


def _openai_tokenizer() -> Any:
    """Return the tokenizer object of OpenAI's package; None before the package is imported."""
    import sys

    return getattr(sys.modules.get("clip.clip"), "_tokenizer", None)
