"""Making any caption safe and cheap to tokenize without changing what the model sees of it.

CLIP's byte pair encoding takes time quadratic in the length of a word, and captions of the crawl reach 60,000
characters, some without a space. Its context holds at most 77 tokens, so whatever lies far behind them has no effect.
"""

import re

MAX_CHARS = 20_000
"""Kept of a caption: 77 tokens of the longest entry of CLIP's vocabulary (64 characters), four times over."""
MAX_WORD_CHARS = 600
"""Kept of a run without spaces: it alone fills the context, by far."""
_LONG_WORD = re.compile(rf"(\S{{{MAX_WORD_CHARS}}})\S+")


def cleaned(caption: str) -> str:
    """The caption, cut where no token of the context can come from, with lone surrogates replaced by `?`."""
    kept = caption[:MAX_CHARS].encode("utf-8", "replace").decode("utf-8")
    return _LONG_WORD.sub(r"\1", kept)
