"""Make any caption safe and cheap to tokenize, without changing the tokens that the model gets.

CLIP's byte pair encoding takes time quadratic in the length of a word. Captions of the crawl have up to 60,000
characters, some without a space. A model's context holds at most 77 tokens, so text far beyond them has no effect.
"""

import re

MAX_CHARS = 20_000
"""Maximum length of a caption: four times 77 tokens of the longest entry of CLIP's vocabulary (64 characters)."""
MAX_WORD_CHARS = 600
"""Maximum length of a word for CLIP's encoding. Such a word alone fills the context."""
_LONG_WORD = re.compile(rf"(\S{{{MAX_WORD_CHARS}}})\S+")


def clean_caption(caption: str) -> str:
    """Truncate the caption where no token of the context can come from; replace lone surrogates by `?`."""
    return caption[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8")


def shorten_words(caption: str) -> str:
    """Truncate long words, for tokenizers that take quadratic time for a word (CLIP's)."""
    return _LONG_WORD.sub(r"\1", caption)
