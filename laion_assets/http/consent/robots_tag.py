"""Consent in response headers: X-Robots-Tag in all valid forms, and TDM-Reservation.

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


def find_refusal(
    robots_tags: Sequence[str],
    tdm_reservations: Sequence[str],
    directives: Sequence[str],
    tokens: Sequence[str],
    now: datetime | None = None,
) -> str | None:
    """Return the header that refuses this fetcher, None if there is none.

    `directives` are the ones that are honoured (`noai`, `noindex`, ...), `tokens` the bot names of this fetcher.
    `none` and an `unavailable_after` date in the past count as `noindex`. Directives for other bots are ignored.
    """
    if any(value.strip().split(";")[0].strip() == "1" for value in tdm_reservations):
        return "TDM-Reservation: 1"
    honoured = {directive.strip().lower() for directive in directives}
    own_names = {token.strip().lower() for token in tokens} | {"*"}
    for value in robots_tags:
        for scope, name, argument in parse_robots_tag(value):
            if scope is not None and scope not in own_names:
                continue
            if name in honoured or (name == "none" and "noindex" in honoured):
                return f"X-Robots-Tag: {name}"
            if name == "unavailable_after" and honoured & {"noindex", name} and _has_passed(argument, now):
                return "X-Robots-Tag: unavailable_after a date that has passed"
    return None


def parse_robots_tag(value: str) -> Iterator[tuple[str | None, str, str]]:
    """Yield (bot or None, directive, argument) of one header value, in lower case. Skips invalid directives."""
    parts = [part.strip().lower() for part in re.split("[,;]", value)]
    scope: str | None = None
    position = 0
    while position < len(parts):
        part = parts[position]
        position += 1
        name, colon, argument = part.partition(":")
        name, argument = name.strip(), argument.strip()
        while colon and name not in _VALUED and _TOKEN.match(name):
            scope = name
            name, colon, argument = argument.partition(":")
            name, argument = name.strip(), argument.strip()
        if name == "unavailable_after" and _WEEKDAY.match(argument) and position < len(parts):
            argument = f"{argument}, {parts[position]}"
            position += 1
        if _TOKEN.match(name):
            yield scope, name, argument


def _has_passed(date: str, now: datetime | None) -> bool:
    """Return whether the date (RFC 822, RFC 850 or ISO 8601) is in the past. An invalid date has no effect."""
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
