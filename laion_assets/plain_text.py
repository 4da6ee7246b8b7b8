"""Untrusted text as plain text: one visible line for terminals, logs and tables, without markup for Markdown.

File names, URLs, captions, headers, reasons, and errors that quote them come from the web. Printed unchanged, they
could move a terminal's cursor, set its title, forge a log line, or become links and images in the Dagster UI.
"""

import json
import re

_INVISIBLE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: newlines, escape sequences, OSC
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u061c"  # zero-width, line separators, directional controls
    "\xad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufeff\uffa0\ufff0-\ufffb"  # other invisible characters
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff"  # lone surrogates: UTF-8 has no bytes for them
    "]"
)
"""Controls, surrogates, and Unicode's Default_Ignorable_Code_Point except the variation selectors of emoji."""
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~#]")
_MARKUP_AT_START = re.compile(r"^(\d*)([-+=.)])")
_AUTOLINK = re.compile(r"(?i)(?<=https:)(?=//)|(?<=http:)(?=//)|(?<=www)(?=\.)|(?=@)")
_WORD_JOINER = "\u2060"


def one_line(text: object, limit: int | None = None) -> str:
    """Return the text as one line of visible characters; others become escapes (`\\n`, `\\x1b`, `\\u202e`).

    `limit` is the maximum number of characters. A truncated text ends with an ellipsis.
    """
    line = str(text)
    if limit is not None and len(line) > limit:
        line = line[: limit - 1] + "…"
    line = _INVISIBLE.sub(_escape, line)
    if limit is not None and len(line) > limit:
        line = line[: limit - 1] + "…"
    return line


def for_markdown(text: object) -> str:
    """Escape a text for CommonMark and GitHub Flavored Markdown: one line, no image, link, autolink or HTML.

    A URL or an e-mail address gets an invisible word joiner, because GitHub's dialect links it even if it is escaped.
    """
    line = _MARKUP.sub(lambda found: f"\\{found[0]}", one_line(text).strip())
    return _AUTOLINK.sub(_WORD_JOINER, _MARKUP_AT_START.sub(r"\1\\\2", line))


def for_json(document: str) -> str:
    """Write the invisible characters in the strings of a JSON document as `\\u` escapes. Its value stays the same."""
    return _INVISIBLE.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], document)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    if found[0] in _NAMED:
        return _NAMED[found[0]]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
