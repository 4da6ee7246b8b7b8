"""A list of URLs as a source, `list:PLACE`: one URL a line, in a file, at an fsspec URL or on the web; gzip too."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from urllib.parse import unquote, urlsplit

from laion_assets.errors import SourceError
from laion_assets.http.listings.file_path import distinct_paths, is_safe, marked
from laion_assets.http.listings.file_pattern import compile_pattern
from laion_assets.http.listings.listing import MAX_FILES, Listed, Listing
from laion_assets.http.messages.content_coding import StreamDecoder
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.async_connection import read_plain
from laion_assets.http.sources.retry import TRANSIENT_STATUSES, explain, transient, with_retries
from laion_assets.http.urls.places import is_http, refuse_http_file_system
from laion_assets.http.urls.target import DEFAULT_PORTS, parse_target
from laion_assets.reasons import Rejection

MAX_URL_CHARS = 8_192
MAX_LIST_BYTES = 256 << 20
"""Of a list, as it comes and decoded: 256 MiB are some 2.5 million URLs."""
_MAX_LINE_BYTES = 1 << 16
_PIECE_BYTES = 1 << 18
_BOM = b"\xef\xbb\xbf"
_MAX_NAMED = 10


async def read_url_list(source: AsyncClient, place: str, pattern: str, retries: int) -> Listing:
    """The files that a list names, each below a folder of its host: `http://a.test:81/x/1.csv` is `a.test_81/x/1.csv`.

    Empty lines and those that begin with `#` are skipped, a duplicate URL is fetched once. A URL that does not match is
    left out as `other_pattern`. Raises SourceError naming the lines that are no http or https URLs with a path that a
    file may have, and for a list that cannot be read or is too large.
    """
    match = compile_pattern(pattern)
    listing = Listing()
    found: dict[str, str] = {}
    wrong: list[str] = []
    wrong_lines = 0
    for number, line in _lines(_plain(await _content(source, place, retries), place), place):
        url = line.strip().split("#")[0]
        if not url:
            continue
        try:
            path = _path_of(url, match)
        except SourceError as error:
            wrong_lines += 1
            if len(wrong) < _MAX_NAMED:
                wrong.append(f"line {number}: {error}")
            continue
        if path is None:
            listing.leave_out("other_pattern", url)
        elif found.setdefault(path, url) != url:
            # One path, two URLs: http beside https, or another spelling of the path.
            found.setdefault(marked(path, url), url)
        if len(found) > MAX_FILES:
            raise SourceError(f"the list {place} names more than {MAX_FILES:,} files: split it.")
    if wrong:
        more = f"\nand {wrong_lines - _MAX_NAMED:,} more" if wrong_lines > _MAX_NAMED else ""
        raise SourceError(
            f"{wrong_lines:,} lines of {place} name no file: correct them or put # before them.\n"
            + "\n".join(wrong)
            + more
        )
    places = distinct_paths(found)
    listing.files = sorted((Listed(places[path], url) for path, url in found.items()), key=lambda each: each.path)
    return listing


def _path_of(url: str, match: re.Pattern[str]) -> str | None:
    """The path of a URL's file, None if the URL does not match. Raises SourceError."""
    if len(url) > MAX_URL_CHARS or re.search(r"[\x00-\x20\x7f]", url):
        raise SourceError(f"{url[:100]!r} is too long, or has spaces or control characters in it.")
    try:
        target = parse_target(url)
    except Rejection as rejection:
        raise SourceError(f"{url[:200]!r} is no http or https URL with a host ({rejection.detail}).") from rejection
    parts = urlsplit(url)
    matched = match.search(parts.path) or match.search(url)
    if matched is None:
        return None
    folder = target.host.replace(":", "_") + ("" if target.port == DEFAULT_PORTS[target.scheme] else f"_{target.port}")
    path = f"{folder}/{unquote(parts.path).lstrip('/')}"
    if parts.query:
        path = marked(path, url)
        path += "" if match.search(path) else matched.group(0)
    if path.endswith("/") or not is_safe(path):
        raise SourceError(f"{url[:200]!r} has a path that no file may have.")
    return path


def _lines(pieces: Iterable[bytes], place: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without holding more than one piece and one line."""
    number, rest, is_first = 0, b"", True
    for piece in pieces:
        block = rest + piece
        if is_first and len(block) >= len(_BOM):
            block, is_first = block.removeprefix(_BOM), False
        *lines, rest = _split(block)
        for line in lines:
            number += 1
            yield number, line.decode(errors="replace")
        if len(rest) > _MAX_LINE_BYTES:
            raise SourceError(f"line {number + 1} of {place} is longer than {_MAX_LINE_BYTES:,} bytes: is it a list?")
    if rest:
        yield number + 1, rest.removeprefix(_BOM if is_first else b"").removesuffix(b"\r").decode(errors="replace")


def _split(block: bytes) -> list[bytes]:
    """Lines that end in LF, CR LF or CR, and the rest; a CR at the end may be half of a CR LF, so it stays."""
    head, tail = (block[:-1], b"\r") if block.endswith(b"\r") else (block, b"")
    *lines, rest = head.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [*lines, rest + tail]


def _plain(content: bytes, place: str) -> Iterator[bytes]:
    """The list in pieces, decoded if it is gzip. Raises SourceError for damage and for more than MAX_LIST_BYTES."""
    if not content.startswith(b"\x1f\x8b"):
        for start in range(0, len(content), _PIECE_BYTES):
            yield content[start : start + _PIECE_BYTES]
        return
    decoder, size = StreamDecoder("gzip"), 0
    try:
        for piece in chain(decoder.feed(content), decoder.end()):
            size += len(piece)
            if size > MAX_LIST_BYTES:
                raise SourceError(f"the list {place} decodes to more than {MAX_LIST_BYTES >> 20} MiB: split it.")
            yield piece
    except Rejection as rejection:
        raise SourceError(f"{place} is damaged: {rejection.detail}.") from rejection


async def _content(source: AsyncClient, place: str, retries: int) -> bytes:
    if not is_http(place):
        return await asyncio.to_thread(_read_file, place)

    async def read() -> bytes:
        async with source.get(place) as response:
            if response.status in TRANSIENT_STATUSES:
                raise transient(response)
            if response.status not in (200, 203):
                raise SourceError(f"the list {place} answers {response.status} {response.head.reason[:80]}.")
            return await read_plain(response, MAX_LIST_BYTES)

    try:
        return await with_retries(read, place, retries)
    except Rejection as rejection:
        raise SourceError(f"the list {place} cannot be read: {explain(rejection)}") from rejection


def _read_file(place: str) -> bytes:
    import fsspec

    refuse_http_file_system(place)
    try:
        fs, path = fsspec.core.url_to_fs(place)
        with fs.open(path, "rb") as file:
            content = bytes(file.read(MAX_LIST_BYTES + 1))
    except Exception as error:
        raise SourceError(f"the list {place} cannot be read: {error}.") from error
    if len(content) > MAX_LIST_BYTES:
        raise SourceError(f"the list {place} is larger than {MAX_LIST_BYTES >> 20} MiB: split it.")
    return content
