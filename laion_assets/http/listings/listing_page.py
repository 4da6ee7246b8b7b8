"""What a web server's directory page names: the formats of nginx, Apache and plain link lists.

nginx    autoindex_format html (a link a line, date and size after it), json, xml, jsonp
Apache   mod_autoindex: a plain list (ul), FancyIndexing (pre), HTMLTable (table); `?C=N;O=D` links sort the columns
others   any HTML whose links name the files: Python's http.server, Caddy, lighttpd, S3 website indexes

A page is what a stranger wrote: every scan goes over it once (no pattern can match at one place in two ways, nothing is
scanned again from its start), because a quadratic one takes minutes for 25 kB. `html.parser` is not linear before
Python 3.11.14.
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from laion_assets.errors import SourceError

MAX_ENTRIES = 1_000_000
"""Links that one page may have."""
MAX_HREF_CHARS = 8_192
"""A longer link is not one that anybody could ask for: it is skipped."""
_START = re.compile(r"<!--|<a(?=[\s/>])", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"""[\s/]*+([^\s/>=]++|=)(?:\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>]*+)))?+""",
)
_TAG_END = re.compile(r"[\s/]*+>")
_NGINX_SIZE = re.compile(r"[^<]*+</a>\s*+[0-9]{2}-\w{3}-[0-9]{4}\s[0-9]{2}:[0-9]{2}\s++([0-9]{1,18})\s")
_XML_START = re.compile(r"<(file|directory)(?=[\s>])")
_XML_SIZE = re.compile(r'\bsize="([0-9]{1,18})"')
_MAX_SIZE = 1 << 62
_MAX_JSON_SIGNS = {"{": MAX_ENTRIES, "[": MAX_ENTRIES, ",": 8 * MAX_ENTRIES}
"""Counted before parsing: 64 MiB of `{},` would be 2 GB of objects."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A link of a page as it stands there, and the size in bytes if the page gives it exactly, else -1."""

    href: str
    size: int = -1


def entries_of(body: str, content_type: str, url: str) -> Iterator[Entry]:
    """The links of a page. Raises SourceError for JSON that is no listing and for too many links, naming the URL."""
    for count, entry in enumerate(_entries(body, content_type, url), 1):
        if count > MAX_ENTRIES:
            raise SourceError(f"{url} has more than {MAX_ENTRIES:,} links: is it a directory listing?")
        if len(entry.href) <= MAX_HREF_CHARS:
            yield entry


def _entries(body: str, content_type: str, url: str) -> Iterator[Entry]:
    start = body[:4_096].lstrip("\ufeff \t\r\n")[:200]
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or start.startswith("["):
        yield from _json_entries(body, url)
    elif kind in ("application/javascript", "text/javascript") or re.match(r"[\w.$]{1,100}\(\[", start):
        yield from _json_entries(body[body.find("(") + 1 : body.rfind(")")], url)
    elif "<list>" in start or (kind.endswith("/xml") and "<html" not in start.lower()):
        yield from _xml_entries(body)
    else:
        yield from _html_entries(body)


def _html_entries(body: str) -> Iterator[Entry]:
    place = 0
    while found := _START.search(body, place):
        place = found.end()
        if found.group() == "<!--":
            end = body.find("-->", place)
            if end < 0:
                return
            place = end + 3
            continue
        href, place = _href_of_tag(body, place)
        if href is None:
            continue
        size = _NGINX_SIZE.match(body, place)
        yield Entry(_unescape(href).strip(), int(size.group(1)) if size else -1)


def _href_of_tag(body: str, place: int) -> tuple[str | None, int]:
    """The first href of the tag whose attributes begin here, None without one, and where the tag ends."""
    href: str | None = None
    while attribute := _ATTRIBUTE.match(body, place):
        place = attribute.end()
        if href is None and attribute.group(1).lower() == "href":
            href = next((value for value in attribute.groups()[1:] if value is not None), None)
    end = _TAG_END.match(body, place)
    return (href, end.end()) if end else (None, max(place, len(body)))


def _json_entries(body: str, url: str) -> Iterator[Entry]:
    if any(body.count(sign) > most for sign, most in _MAX_JSON_SIGNS.items()):
        raise SourceError(f"{url} has more than {MAX_ENTRIES:,} links: is it a directory listing?")
    try:
        for entry in json.loads(body.lstrip("\ufeff")):
            name = entry["name"]
            if not isinstance(name, str):
                raise TypeError("a name is no text")
            size = entry.get("size")
            is_size = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _MAX_SIZE
            yield Entry(_quoted(name, entry.get("type") == "directory"), size if is_size else -1)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{url} answers JSON that is no listing of nginx ({str(error)[:200]}): correct the source."
        ) from error


def _xml_entries(body: str) -> Iterator[Entry]:
    place = 0
    while found := _XML_START.search(body, place):
        end = body.find(">", found.end())
        if end < 0:
            return
        close = body.find("<", end)
        if close < 0:
            return
        kind = found.group(1)
        if body.startswith(f"</{kind}>", close):
            size = _XML_SIZE.search(body, found.end(), end)
            name = _unescape(body[end + 1 : close])
            yield Entry(_quoted(name, kind == "directory"), int(size.group(1)) if size else -1)
        place = close


def _unescape(text: str) -> str:
    """The text without character references; as it is where one is absurd (a number of 5,000 digits)."""
    try:
        return html.unescape(text) if len(text) <= 4 * MAX_HREF_CHARS else text
    except ValueError:
        return text


def _quoted(name: str, is_folder: bool) -> str:
    """A name as a link has it; the JSON and XML forms give names unencoded."""
    return quote(name, safe="", errors="replace") + ("/" if is_folder else "")
