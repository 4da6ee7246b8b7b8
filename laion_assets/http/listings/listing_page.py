"""Links of a web server's directory page, in the formats of nginx, Apache and plain HTML.

nginx    autoindex_format html (one link per line, then date and size), json, xml, jsonp
Apache   mod_autoindex: a plain list (ul), FancyIndexing (pre), HTMLTable (table); `?C=N;O=D` links sort the columns
others   any HTML with links to the files: Python's http.server, Caddy, lighttpd, S3 website indexes

Pages are untrusted. All scans are linear, with possessive patterns that never backtrack: a quadratic scan would take
minutes for 25 kB. `html.parser` is not linear before Python 3.11.14.
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from laion_assets.errors import SourceError

MAX_ENTRIES = 1_000_000
"""Maximum number of links of one page."""
MAX_HREF_CHARS = 8_192
"""Maximum length of a link. Longer ones are skipped: no server accepts them."""
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
"""Maximum counts, checked before parsing: 64 MiB of `{},` would become 2 GB of objects."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A link as written on the page, and the exact size in bytes if the page has it, else -1."""

    href: str
    size: int = -1


def parse_links(body: str, content_type: str, url: str) -> Iterator[Entry]:
    """Parse the links of a page. Raises SourceError for JSON that is not a listing, and for too many links."""
    for count, entry in enumerate(_parse_format(body, content_type, url), 1):
        if count > MAX_ENTRIES:
            raise SourceError(f"{url} has more than {MAX_ENTRIES:,} links. Is it a directory listing?")
        if len(entry.href) <= MAX_HREF_CHARS:
            yield entry


def _parse_format(body: str, content_type: str, url: str) -> Iterator[Entry]:
    start = body[:4_096].lstrip("\ufeff \t\r\n")[:200]
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or start.startswith("["):
        yield from _parse_json(body, url)
    elif kind in ("application/javascript", "text/javascript") or re.match(r"[\w.$]{1,100}\(\[", start):
        yield from _parse_json(body[body.find("(") + 1 : body.rfind(")")], url)
    elif "<list>" in start or (kind.endswith("/xml") and "<html" not in start.lower()):
        yield from _parse_xml(body)
    else:
        yield from _parse_html(body)


def _parse_html(body: str) -> Iterator[Entry]:
    place = 0
    while found := _START.search(body, place):
        place = found.end()
        if found.group() == "<!--":
            end = body.find("-->", place)
            if end < 0:
                return
            place = end + 3
            continue
        href, place = _read_href(body, place)
        if href is None:
            continue
        size = _NGINX_SIZE.match(body, place)
        yield Entry(_unescape(href).strip(), int(size.group(1)) if size else -1)


def _read_href(body: str, place: int) -> tuple[str | None, int]:
    """Return the first href of the tag whose attributes start at `place`, None without one, and the end of the tag."""
    href: str | None = None
    while attribute := _ATTRIBUTE.match(body, place):
        place = attribute.end()
        if href is None and attribute.group(1).lower() == "href":
            href = next((value for value in attribute.groups()[1:] if value is not None), None)
    end = _TAG_END.match(body, place)
    return (href, end.end()) if end else (None, max(place, len(body)))


def _parse_json(body: str, url: str) -> Iterator[Entry]:
    if any(body.count(sign) > most for sign, most in _MAX_JSON_SIGNS.items()):
        raise SourceError(f"{url} has more than {MAX_ENTRIES:,} links. Is it a directory listing?")
    try:
        for entry in json.loads(body.lstrip("\ufeff")):
            name = entry["name"]
            if not isinstance(name, str):
                raise TypeError("a name is not text")
            size = entry.get("size")
            is_size = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _MAX_SIZE
            yield Entry(_quote_name(name, entry.get("type") == "directory"), size if is_size else -1)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"The JSON of {url} is not a directory listing of nginx: {str(error)[:200]}. Correct the source."
        ) from error


def _parse_xml(body: str) -> Iterator[Entry]:
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
            yield Entry(_quote_name(name, kind == "directory"), int(size.group(1)) if size else -1)
        place = close


def _unescape(text: str) -> str:
    """Decode character references. Returns the text unchanged if one is invalid (a number of 5,000 digits)."""
    try:
        return html.unescape(text) if len(text) <= 4 * MAX_HREF_CHARS else text
    except ValueError:
        return text


def _quote_name(name: str, is_folder: bool) -> str:
    """Percent-encode a name. The JSON and XML formats have names that are not encoded."""
    return quote(name, safe="", errors="replace") + ("/" if is_folder else "")
