"""The responses of the sample site: a deterministic function of host, path and crawl."""

import hashlib
import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import unquote

import numpy as np

from laion_assets.sample import rehearsal
from laion_assets.sample.crawl import Crawl
from laion_assets.sample.originals import FORMATS, ONE_PIXEL_GIF, bomb_png, jpeg, png, tiff
from laion_assets.sample.pages import HOSTS, Page, host_name
from laion_assets.sample.scenes import Scene, render

CRAWL_HOST = "crawl.test"
LISTING_PATH = "/laion400m/"
REHEARSAL_PATH = "/rehearsal/"
OVERSIZED_BYTES = 64_000_000
CHUNKED_OVERSIZED_BYTES = 16_000_000
CHAIN_LENGTH = 40
_LAST_MODIFIED = "Tue, 30 Mar 2021 12:00:00 GMT"
_PAGE = re.compile(r"(\d{6})\.[a-z]+$")
_SMALL = re.compile(r"^/small/(\d{6})\.jpg$")
_CHAIN = re.compile(r"^/chain/(\d+)/")


class Delivery(Enum):
    """How the bytes of an answer are sent. All values but WHOLE leave the connection unusable."""

    WHOLE = "whole"
    SLOW = "one byte per second"
    ENDLESS = "chunks without end"
    ENDLESS_HEADERS = "header lines without end"
    SILENT = "nothing at all"
    SHORT = "half of the body, then the end"
    RESET = "a reset instead of an answer"
    RESET_MID_BODY = "half of the body, then a reset"
    ANNOUNCED = "a large Content-Length, and zeros as long as the client reads"
    CHUNKED = "large and chunked"


@dataclass(frozen=True)
class Answer:
    """One response: status, headers without Content-Length, body, and how the body is sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delivery: Delivery = Delivery.WHOLE


_STATUS = {"not_found": 404, "gone": 410, "forbidden": 403, "legal": 451, "server_error": 500, "no_content": 204}
_DELIVERIES = {
    "slow_body": Delivery.SLOW,
    "endless_body": Delivery.ENDLESS,
    "endless_headers": Delivery.ENDLESS_HEADERS,
    "silence": Delivery.SILENT,
    "short_body": Delivery.SHORT,
    "reset": Delivery.RESET,
    "reset_mid_body": Delivery.RESET_MID_BODY,
    "oversized_announced": Delivery.ANNOUNCED,
    "oversized_chunked": Delivery.CHUNKED,
}
_HEADERS = {
    "robots_noai": {"X-Robots-Tag": "noai"},
    "robots_noimageai": {"X-Robots-Tag": "noindex, noimageai"},
    "robots_other_bot": {"X-Robots-Tag": "somebot: noai"},
    "robots_expired": {"X-Robots-Tag": "unavailable_after: 25 Jun 2010 15:00:00 GMT"},
    "robots_until": {"X-Robots-Tag": "unavailable_after: 25 Jun 2099 15:00:00 GMT"},
    "tdm_reserved": {"TDM-Reservation": "1"},
}
_JPEG = {"Content-Type": "image/jpeg"}
_TEXT = {"Content-Type": "text/plain"}


def answer(crawl: Crawl, host: str, target: str, headers: Mapping[str, str]) -> Answer:
    """Return the answer to GET `target` (path with query) on the virtual host `host`. Header names: lower case."""
    path = unquote(target.split("?", 1)[0])
    if host == CRAWL_HOST and path.startswith(REHEARSAL_PATH):
        return _listing_answer(rehearsal.csv_files(), REHEARSAL_PATH, path, headers)
    if host == CRAWL_HOST:
        return _listing_answer(_contents(crawl), LISTING_PATH, path, headers)
    if host in _PHOTO_HOSTS and (small := _SMALL.match(path)):
        image = rehearsal.render_image(int(small[1]))
        return Answer(404, _TEXT, b"not found") if image is None else Answer(200, _JPEG, image)
    found = _PAGE.search(path)
    if host not in _PHOTO_HOSTS or not found or int(found[1]) >= len(crawl.pages):
        return Answer(404, {"Content-Type": "text/html"}, b"<html><body><h1>404 Not Found</h1></body></html>\n")
    page = crawl.pages[int(found[1])]
    if path.startswith("/here/"):
        return Answer(200, _JPEG, jpeg(_draw(page)))
    if chain := _CHAIN.match(path):
        return _chain_answer(page, int(chain[1]))
    return _page_answer(page)


_PHOTO_HOSTS = frozenset(host_name(number) for number in range(HOSTS))


def _page_answer(page: Page) -> Answer:
    kind = page.kind
    if kind in FORMATS:
        image_format = FORMATS[kind]
        return Answer(200, {"Content-Type": image_format.media_type}, image_format.encode(_draw(page)))
    if kind in _STATUS:
        return Answer(_STATUS[kind], {"Content-Type": "text/plain"}, b"" if kind == "no_content" else kind.encode())
    if kind in ("rate_limited", "unavailable"):
        return Answer(429 if kind == "rate_limited" else 503, {"Retry-After": "1"}, kind.encode())
    if kind.startswith("redirect"):
        return _redirect_answer(page)
    if kind in _DELIVERIES:
        body = b"" if _DELIVERIES[kind] in _BODILESS else _draw_jpeg(page)
        return Answer(200, _JPEG, body, _DELIVERIES[kind])
    headers = {"Content-Type": _MEDIA.get(kind, "image/jpeg")} | _HEADERS.get(kind, {})
    return Answer(200, headers, _BODIES.get(kind, _draw_jpeg)(page))


_BODILESS = (Delivery.ENDLESS_HEADERS, Delivery.SILENT, Delivery.RESET, Delivery.ANNOUNCED, Delivery.CHUNKED)


def _redirect_answer(page: Page) -> Answer:
    number = f"{page.index:06d}"
    location = {
        "redirect": f"http://{host_name((page.index + 1) % HOSTS)}/here/{number}.jpg",
        "redirect_loop": page.url,
        "redirect_chain": f"/chain/1/{number}.jpg",
        "redirect_private": f"http://10.0.0.1/{number}.jpg",
        "redirect_file": "file:///etc/passwd",
    }
    if page.kind == "redirect_nowhere":
        return Answer(301)
    return Answer(302, {"Location": location[page.kind]})


def _chain_answer(page: Page, hop: int) -> Answer:
    if hop >= CHAIN_LENGTH:
        return Answer(200, _JPEG, jpeg(_draw(page)))
    return Answer(302, {"Location": f"/chain/{hop + 1}/{page.index:06d}.jpg"})


def _draw_jpeg(page: Page) -> bytes:
    return jpeg(_draw(page))


def _draw(page: Page) -> np.ndarray:
    return render(page.scene, *page.size)


def _truncate(body: bytes, share: float) -> bytes:
    return body[: int(len(body) * share)]


def _corrupt(body: bytes, index: int) -> bytes:
    noise = b"".join(hashlib.sha256(f"{index}/{block}".encode()).digest() for block in range(19))[:600]
    return body[:4] + noise + body[604:]


def _svg(scene: Scene) -> bytes:
    title = html.escape(scene.caption)
    return (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="300" height="200">'
        f'<title>{title}</title><circle cx="90" cy="100" r="40" fill="red"/></svg>'
    ).encode()


_BODIES: Mapping[str, Callable[[Page], bytes]] = {
    "html": lambda page: f"<!DOCTYPE html><html><body><p>{html.escape(page.scene.caption)}</p></body></html>".encode(),
    "svg": lambda page: _svg(page.scene),
    "truncated_jpeg": lambda page: _truncate(_draw_jpeg(page), 0.6),
    "corrupt": lambda page: _corrupt(_draw_jpeg(page), page.index),
    "bomb": lambda page: bomb_png(),
    "one_pixel": lambda page: ONE_PIXEL_GIF,
    "sliver": lambda page: png(render(page.scene, 4_000, 2)),
    "tiff": lambda page: tiff(_draw(page)),
}
_MEDIA = {
    "svg": "image/svg+xml",
    "bomb": "image/png",
    "sliver": "image/png",
    "one_pixel": "image/gif",
    "tiff": "image/tiff",
}


def _listing_answer(contents: Mapping[str, bytes], root: str, path: str, headers: Mapping[str, str]) -> Answer:
    if not path.startswith(root):
        return Answer(404, _TEXT, b"not found")
    name_or_folder = path.removeprefix(root)
    if name_or_folder in contents:
        return _file_answer(name_or_folder, contents[name_or_folder], headers)
    entries: dict[str, int | None] = {}
    for name, content in contents.items():
        if name.startswith(name_or_folder) and (not name_or_folder or name_or_folder.endswith("/")):
            entry, slash, _ = name.removeprefix(name_or_folder).partition("/")
            entries[entry + slash] = None if slash else len(content)
    if not entries:
        return Answer(404, _TEXT, b"not found")
    return Answer(200, {"Content-Type": "text/html"}, _autoindex(path, entries))


def _contents(crawl: Crawl) -> dict[str, bytes]:
    readme = {"README.txt": b"The embedded sample's crawl. Not a CSV file.\n"}
    return readme | {file.path: file.content for file in crawl.files}


def _autoindex(path: str, entries: Mapping[str, int | None]) -> bytes:
    """Write a directory listing like nginx's autoindex module."""
    title = f"Index of {html.escape(path)}"
    lines = [f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<h1>{title}</h1><hr><pre>"]
    lines.append('<a href="../">../</a>')
    for name, size in sorted(entries.items()):
        pad = " " * max(1, 51 - len(name))
        lines.append(f'<a href="{name}">{name}</a>{pad}30-Mar-2021 12:00 {"-" if size is None else size:>19}')
    return ("\r\n".join(lines) + "\r\n</pre><hr></body>\r\n</html>\r\n").encode()


def _file_answer(name: str, content: bytes, headers: Mapping[str, str]) -> Answer:
    """Answer with a file: ETag, Last-Modified and one byte range (RFC 9110, sections 13 and 14)."""
    etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    media = "application/gzip" if name.endswith(".gz") else "text/csv" if name.endswith(".csv") else "text/plain"
    common = {"Content-Type": media, "ETag": etag, "Last-Modified": _LAST_MODIFIED, "Accept-Ranges": "bytes"}
    if headers.get("if-none-match") == etag:
        return Answer(304, common)
    byte_range = headers.get("range", "")
    if not byte_range or headers.get("if-range", etag) not in (etag, _LAST_MODIFIED):
        return Answer(200, common, content)
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", byte_range.strip())
    if not found or not (found[1] or found[2]):
        return Answer(200, common, content)
    if found[1]:
        first, last = int(found[1]), min(int(found[2]) if found[2] else len(content) - 1, len(content) - 1)
    else:
        first, last = max(0, len(content) - int(found[2])), len(content) - 1
    if first > last:
        return Answer(416, common | {"Content-Range": f"bytes */{len(content)}"})
    common["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    return Answer(206, common, content[first : last + 1])
