"""Consent in response headers: X-Robots-Tag in all its legal forms, and the TDM reservation.

X-Robots-Tag (Google's robots specification, which every crawler follows): any number of headers, each a comma list of
directives, some with a value (`unavailable_after: DATE`, `max-snippet: 20`), each list optionally scoped to a bot
(`googlebot: noindex`), with further scopes possible inside one header. TDM-Reservation: 1 is the W3C community
group's TDM Reservation Protocol.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_VALUED = {"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"}
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+\Z")
_WEEKDAY = re.compile(r"(mon|tue|wed|thu|fri|sat|sun)[a-z]*\Z")


def refused_by(
    robots_tags: Sequence[str],
    tdm_reservations: Sequence[str],
    directives: Sequence[str],
    tokens: Sequence[str],
    now: datetime | None = None,
) -> str | None:
    """What in the headers refuses us, None if nothing does.

    `directives` are those that we honour (`noai`, `noindex`, ...), `tokens` the bot names that mean us. `none` counts
    as `noindex`; a passed `unavailable_after` date, too. Directives scoped to other bots do not bind us.
    """
    if any(value.strip().split(";")[0].strip() == "1" for value in tdm_reservations):
        return "TDM-Reservation: 1"
    honoured = {directive.strip().lower() for directive in directives}
    ours = {token.strip().lower() for token in tokens} | {"*"}
    for value in robots_tags:
        for scope, name, argument in parse_robots_tag(value):
            if scope is not None and scope not in ours:
                continue
            if name in honoured or (name == "none" and "noindex" in honoured):
                return f"X-Robots-Tag: {name}"
            if name == "unavailable_after" and honoured & {"noindex", name} and _has_passed(argument, now):
                return "X-Robots-Tag: unavailable_after a date that has passed"
    return None


def parse_robots_tag(value: str) -> Iterator[tuple[str | None, str, str]]:
    """(bot or None, directive, argument) of one header value, in lower case; what is no directive is left out."""
    parts = [part.strip().lower() for part in re.split("[,;]", value)]
    scope: str | None = None
    position = 0
    while position < len(parts):
        part = parts[position]
        position += 1
        name, colon, rest = part.partition(":")
        name, rest = name.strip(), rest.strip()
        while colon and name not in _VALUED and _TOKEN.match(name):
            scope = name
            name, colon, rest = rest.partition(":")
            name, rest = name.strip(), rest.strip()
        if name == "unavailable_after" and _WEEKDAY.match(rest) and position < len(parts):
            rest = f"{rest}, {parts[position]}"
            position += 1
        if _TOKEN.match(name):
            yield scope, name, rest


def _has_passed(date: str, now: datetime | None) -> bool:
    """Whether the date (RFC 822, RFC 850 or ISO 8601) is over; a date that is none has no effect."""
    parsed: datetime | None = None
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            parsed = parse(date.upper())
            break
        except (ValueError, TypeError, IndexError):
            continue
    if parsed is None:
        return False
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)) <= (now or datetime.now(UTC))
