"""What a web server's directory page names: the formats of nginx, Apache and plain link lists.

nginx    autoindex_format html (a link a line, date and size after it), json, xml, jsonp
Apache   mod_autoindex: a plain list (ul), FancyIndexing (pre), HTMLTable (table); `?C=N;O=D` links sort the columns
others   any HTML whose links name the files: Python's http.server, Caddy, lighttpd, S3 website indexes
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

from laion_assets.errors import SourceError

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(
    r"""<a\b[^>]*?\bhref\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))[^>]*>   # the link
        (?:[^<]*</a>\s*\d\d-\w{3}-\d{4}\s\d\d:\d\d\s+(\d+)\s)?              # nginx: text, date, exact size
    """,
    re.VERBOSE | re.IGNORECASE,
)
_XML_ENTRY = re.compile(r"<(file|directory)\b([^>]*)>([^<]*)</\1>")
_XML_SIZE = re.compile(r'\bsize="(\d+)"')


@dataclass(frozen=True, slots=True)
class Entry:
    """A link of a page as it stands there, and the size in bytes if the page gives it exactly, else -1."""

    href: str
    size: int = -1


def entries_of(body: str, content_type: str, url: str) -> Iterator[Entry]:
    """The links of a page. Raises SourceError for JSON that is no listing, naming the URL."""
    start = body.lstrip("\ufeff \t\r\n")[:200]
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or start.startswith("["):
        yield from _json_entries(body, url)
    elif kind in ("application/javascript", "text/javascript") or re.match(r"[\w.$]+\(\[", start):
        yield from _json_entries(body[body.find("(") + 1 : body.rfind(")")], url)
    elif "<list>" in start or (kind.endswith("/xml") and "<html" not in start.lower()):
        yield from _xml_entries(body)
    else:
        for double, single, bare, size in _LINK.findall(_COMMENT.sub("", body)):
            yield Entry(html.unescape(double or single or bare).strip(), int(size) if size else -1)


def _json_entries(body: str, url: str) -> Iterator[Entry]:
    try:
        for entry in json.loads(body.lstrip("\ufeff")):
            name = entry["name"]
            if not isinstance(name, str):
                raise TypeError("a name is no text")
            size = entry.get("size")
            yield Entry(_href(name, entry.get("type") == "directory"), size if isinstance(size, int) else -1)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(f"{url} answers JSON that is no listing of nginx ({error}): correct the source.") from error


def _xml_entries(body: str) -> Iterator[Entry]:
    for kind, attributes, name in _XML_ENTRY.findall(body):
        size = _XML_SIZE.search(attributes)
        yield Entry(_href(html.unescape(name), kind == "directory"), int(size.group(1)) if size else -1)


def _href(name: str, is_folder: bool) -> str:
    """A name as a link has it; the JSON and XML forms give names unencoded."""
    return quote(name, safe="") + ("/" if is_folder else "")
