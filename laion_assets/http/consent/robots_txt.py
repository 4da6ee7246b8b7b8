"""What a robots.txt allows us: RFC 9309, with the Content-Usage rules of draft-ietf-aipref-attach.

protego and Python's urllib.robotparser know no Content-Usage rules and give no access to a group's other lines, so the
format is read here; it is small. Matching is linear in the path and the pattern: a robots.txt is foreign input.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from laion_assets.http.consent.content_usage import disallowed_usage

MAX_BYTES = 500 * 1024
"""What is read of a file (RFC 9309, 2.5); the rest is ignored."""
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
    """What one site asks of us. `size` is the bytes it was read from."""

    group: Group = field(default_factory=Group)
    size: int = 0

    def refusal(self, path: str, usages: Sequence[str]) -> str | None:
        """Why the path (with query) may not be fetched for these categories of use, None if it may.

        The longest matching rule counts, and Allow before Disallow where both are as long (RFC 9309, 2.2.2).
        """
        if path == "/robots.txt":
            return None
        path = _normal(path)
        best = max(((len(rule), allowed) for rule, allowed in self.group.paths if _matches(rule, path)), default=None)
        if best is not None and not best[1]:
            return "robots.txt disallows the path"
        matching = [(len(rule), text) for rule, text in self.group.usages if _matches(rule, path)]
        longest = max((length for length, _ in matching), default=0)
        refused = disallowed_usage((text for length, text in matching if length == longest), usages)
        return None if refused is None else f"robots.txt: Content-Usage {refused}=n"


ALLOW_ALL = Rules()


def parse_robots_txt(content: bytes, tokens: Iterable[str]) -> Rules:
    """The rules for the robots of these product tokens (any case): their groups together, else those of `*`."""
    text = content[:MAX_BYTES].decode("utf-8", "replace").removeprefix("\ufeff")
    ours = {token.lower() for token in tokens}
    named, anyone = Group(), Group()
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
                current.append(anyone)
            elif token is not None and token.group().lower() in ours:
                current.append(named)
                was_named = True
            continue
        if key in ("allow", "disallow", "content-usage"):
            in_agents = False
            for group in current:
                _add(group, key, value)
    return Rules(named if was_named else anyone, len(content))


def _add(group: Group, key: str, value: str) -> None:
    if key == "content-usage":
        path, _, preference = value.partition(" ") if value.startswith("/") else ("/", "", value)
        group.usages.append((_normal(path.partition("\t")[0]), (path.partition("\t")[2] or preference).strip()))
    elif value.startswith(("/", "*")):  # an empty Disallow allows, and what is no path is no rule
        group.paths.append((_normal(value), key == "allow"))


def _normal(path: str) -> str:
    """The path with equal octets written equally (RFC 9309, 2.2.2): escapes only where needed."""
    raw = path.encode("utf-8", "surrogatepass")
    raw = b"".join(bytes((sign,)) if 0x21 <= sign <= 0x7E else b"%%%02X" % sign for sign in raw)

    def plain(escape: "re.Match[bytes]") -> bytes:
        sign = int(escape.group(1), 16)
        return bytes((sign,)) if sign in _UNRESERVED else b"%" + escape.group(1).upper()

    return _ESCAPED.sub(plain, raw).decode("ascii")


def _matches(pattern: str, path: str) -> bool:
    """Whether the path starts as the pattern says; `*` stands for any signs, a last `$` for the end."""
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
