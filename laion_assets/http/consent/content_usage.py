"""Consent by AIPREF: the `Content-Usage` preferences of a header or a robots.txt rule.

Sources: draft-ietf-aipref-attach-05 and draft-ietf-aipref-vocab-08 (2026, work in progress): a dictionary of structured
fields (RFC 9651, 3.2) from a category of use to the token `y` or `n`. Keys and tokens are case-sensitive, parameters
are ignored, and the last of equal keys counts. Any other value is not a preference. Text that is not a valid dictionary
states no preference. Of several statements the most restrictive one counts.
"""

import re
from collections.abc import Iterable

_KEY = r"[a-z*][a-z0-9_.*-]*"
_BARE = "|".join(
    (
        r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*",  # token
        r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"',  # string
        r"-?[0-9]{1,12}\.[0-9]{1,3}|-?[0-9]{1,15}",
        r"\?[01]",
        r":[A-Za-z0-9+/=]*:",  # bytes
        r"@-?[0-9]{1,15}",  # date
        r'%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*"',  # display string
    )
)
_PARAMETERS = rf"(?:; *{_KEY}(?:=(?:{_BARE}))?)*"
_INNER_LIST = rf"\( *(?:(?:{_BARE}){_PARAMETERS}(?: +|(?=\))))*\)"
_MEMBER = re.compile(rf"({_KEY})(?:=({_INNER_LIST}|{_BARE}))?{_PARAMETERS}[ \t]*(,[ \t]*|\Z)")


def parse_preferences(text: str) -> dict[str, str | None]:
    """Return the raw value of each key of a dictionary, None for a bare key. Empty for an invalid dictionary."""
    text = text.strip(" ")
    found: dict[str, str | None] = {}
    position = 0
    while position < len(text):
        member = _MEMBER.match(text, position)
        if member is None:
            return {}
        key, value, end = member.groups()
        found[key] = value
        position = member.end()
        if end and position == len(text):  # a trailing comma
            return {}
    return found


def disallowed_usage(statements: Iterable[str], usages: Iterable[str]) -> str | None:
    """Return the first of these categories that a statement disallows, None if there is none."""
    stated = [parse_preferences(text) for text in statements]
    return next((usage for usage in usages for each in stated if each.get(usage) == "n"), None)
