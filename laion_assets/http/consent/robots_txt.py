"""Parse a robots.txt (RFC 9309), with the Content-Usage rules of draft-ietf-aipref-attach.

protego and Python's urllib.robotparser do not support Content-Usage rules and do not expose a group's other lines, so
this small format is parsed here. Matching is linear in the path and the pattern, because a robots.txt is untrusted.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from laion_assets.http.consent.content_usage import disallowed_usage

MAX_BYTES = 500 * 1024
"""Number of bytes that are parsed (RFC 9309, 2.5). The rest of a file is ignored."""
_ESCAPED = re.compile(rb"%([0-9a-fA-F]{2})")
_TOKEN = re.compile(r"[a-zA-Z0-9_.-]+")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass
class Group:
    """The rules for some robots: (pattern, allowed) and (pattern, usage preferences)."""

    paths: list[tuple[str, bool]] = field(default_factory=list)
    usages: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """The rules of one site for this fetcher. `size` is the size of the file in bytes."""

    group: Group = field(default_factory=Group)
    size: int = 0

    def refusal(self, path: str, usages: Sequence[str]) -> str | None:
        """Return why the path (with query) may not be fetched for these categories of use, None if it may.

        The longest matching rule counts, and Allow before Disallow where both are as long (RFC 9309, 2.2.2).
        """
        if path == "/robots.txt":
            return None
        path = _normalise(path)
        best = max(((len(rule), allowed) for rule, allowed in self.group.paths if _matches(rule, path)), default=None)
        if best is not None and not best[1]:
            return "robots.txt disallows the path"
        matching = [(len(rule), text) for rule, text in self.group.usages if _matches(rule, path)]
        longest = max((length for length, _ in matching), default=0)
        refused = disallowed_usage((text for length, text in matching if length == longest), usages)
        return None if refused is None else f"robots.txt: Content-Usage {refused}=n"


ALLOW_ALL = Rules()


def parse_robots_txt(content: bytes, tokens: Iterable[str]) -> Rules:
    """Return the rules for these product tokens (any case): of all their groups, else of the groups for `*`."""
    text = content[:MAX_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
    own_tokens = {token.lower() for token in tokens}
    named, wildcard = Group(), Group()
    was_named = False
    current: list[Group] = []
    in_agents = False
    for line in re.split(r"\r\n|\r|\n", text):
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key == "user-agent":
            if not in_agents:
                current = []
            in_agents = True
            token = _TOKEN.match(value)
            if value.startswith("*"):
                current.append(wildcard)
            elif token is not None and token.group().lower() in own_tokens:
                current.append(named)
                was_named = True
            continue
        if key in ("allow", "disallow", "content-usage"):
            in_agents = False
            for group in current:
                _add(group, key, value)
    return Rules(named if was_named else wildcard, len(content))


def _add(group: Group, key: str, value: str) -> None:
    if key == "content-usage":
        path, _, preference = value.partition(" ") if value.startswith("/") else ("/", "", value)
        group.usages.append((_normalise(path.partition("\t")[0]), (path.partition("\t")[2] or preference).strip()))
    elif value.startswith(("/", "*")):  # an empty Disallow allows everything; anything else is not a path
        group.paths.append((_normalise(value), key == "allow"))


def _normalise(path: str) -> str:
    """Normalise the percent-encoding of a path (RFC 9309, 2.2.2): escapes only where needed."""
    raw = path.encode("utf-8", "surrogatepass")
    raw = b"".join(bytes((octet,)) if 0x21 <= octet <= 0x7E else b"%%%02X" % octet for octet in raw)

    def unescape(escape: "re.Match[bytes]") -> bytes:
        octet = int(escape.group(1), 16)
        return bytes((octet,)) if octet in _UNRESERVED else b"%" + escape.group(1).upper()

    return _ESCAPED.sub(unescape, raw).decode("ascii")


def _matches(pattern: str, path: str) -> bool:
    """Return whether the path matches the pattern: a prefix, with `*` for any text and a final `$` for the end."""
    at_end = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    position = len(first)
    if not others:
        return not at_end or position == len(path)
    *middle, last = others
    for piece in middle:
        position = path.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    if at_end:
        return len(path) - len(last) >= position and path.endswith(last)
    return path.find(last, position) >= 0
