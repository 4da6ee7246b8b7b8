"""A list of URLs as a source, `list:PLACE`: one URL per line, plain or gzip, in a file, an fsspec URL or over HTTP."""

import asyncio
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from urllib.parse import unquote, urlsplit

from laion_assets.errors import SourceError
from laion_assets.http.listings.file_path import distinct_paths, is_safe, mark_path
from laion_assets.http.listings.file_pattern import compile_pattern
from laion_assets.http.listings.listing import MAX_FILES, Listed, Listing
from laion_assets.http.messages.content_coding import StreamDecoder
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.async_connection import read_plain
from laion_assets.http.sources.retry import TRANSIENT_STATUSES, explain, transient_error, with_retries
from laion_assets.http.urls.places import is_http, refuse_http_file_system
from laion_assets.http.urls.target import DEFAULT_PORTS, parse_target
from laion_assets.reasons import Rejection

MAX_URL_CHARS = 8_192
MAX_LIST_BYTES = 256 << 20
"""Maximum size of a list, both encoded and decoded: 256 MiB are about 2.5 million URLs."""
_MAX_LINE_BYTES = 1 << 16
_PIECE_BYTES = 1 << 18
_BOM = b"\xef\xbb\xbf"
_MAX_NAMED = 10


async def read_url_list(source: AsyncClient, place: str, pattern: str, retries: int) -> Listing:
    """Read a list of URLs. Each file gets a folder of its host: `http://a.test:81/x/1.csv` is `a.test_81/x/1.csv`.

    Empty lines and lines that start with `#` are skipped. Duplicate URLs are fetched once. A URL that does not match
    the pattern is left out (`other_pattern`). Raises SourceError naming the lines that are not http or https URLs with
    a valid file path, and for a list that cannot be read or is too large.
    """
    match = compile_pattern(pattern)
    listing = Listing()
    found: dict[str, str] = {}
    invalid: list[str] = []
    invalid_lines = 0
    for number, line in _split_lines(_decode(await _read_content(source, place, retries), place), place):
        url = line.strip().split("#")[0]
        if not url:
            continue
        try:
            path = _extract_path(url, match)
        except SourceError as error:
            invalid_lines += 1
            if len(invalid) < _MAX_NAMED:
                invalid.append(f"line {number}: {error}")
            continue
        if path is None:
            listing.leave_out("other_pattern", url)
        elif found.setdefault(path, url) != url:
            # Two URLs with the same path: http and https, or two spellings of the path.
            found.setdefault(mark_path(path, url), url)
        if len(found) > MAX_FILES:
            raise SourceError(f"The list {place} has more than {MAX_FILES:,} files. Split it.")
    if invalid:
        more = f"\nand {invalid_lines - _MAX_NAMED:,} more" if invalid_lines > _MAX_NAMED else ""
        raise SourceError(
            f"{invalid_lines:,} lines of {place} are not valid file URLs. Correct them or put # before them.\n"
            + "\n".join(invalid)
            + more
        )
    places = distinct_paths(found)
    listing.files = sorted((Listed(places[path], url) for path, url in found.items()), key=lambda each: each.path)
    return listing


def _extract_path(url: str, match: re.Pattern[str]) -> str | None:
    """Return the path of a URL's file, None if the URL does not match the pattern. Raises SourceError."""
    if len(url) > MAX_URL_CHARS or re.search(r"[\x00-\x20\x7f]", url):
        raise SourceError(f"{url[:100]!r} is too long, or contains spaces or control characters.")
    try:
        target = parse_target(url)
    except Rejection as rejection:
        raise SourceError(f"{url[:200]!r} is not an http or https URL with a host ({rejection.detail}).") from rejection
    parts = urlsplit(url)
    matched = match.search(parts.path) or match.search(url)
    if matched is None:
        return None
    folder = target.host.replace(":", "_") + ("" if target.port == DEFAULT_PORTS[target.scheme] else f"_{target.port}")
    path = f"{folder}/{unquote(parts.path).lstrip('/')}"
    if parts.query:
        path = mark_path(path, url)
        path += "" if match.search(path) else matched.group(0)
    if path.endswith("/") or not is_safe(path):
        raise SourceError(f"The path of {url[:200]!r} is not a valid file path.")
    return path


def _split_lines(pieces: Iterable[bytes], place: str) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line. Holds at most one piece and one line."""
    number, rest, is_first = 0, b"", True
    for piece in pieces:
        block = rest + piece
        if is_first and len(block) >= len(_BOM):
            block, is_first = block.removeprefix(_BOM), False
        *lines, rest = _split_block(block)
        for line in lines:
            number += 1
            yield number, line.decode(errors="replace")
        if len(rest) > _MAX_LINE_BYTES:
            raise SourceError(
                f"Line {number + 1} of {place} is longer than {_MAX_LINE_BYTES:,} bytes. Is the file a list of URLs?"
            )
    if rest:
        yield number + 1, rest.removeprefix(_BOM if is_first else b"").removesuffix(b"\r").decode(errors="replace")


def _split_block(block: bytes) -> list[bytes]:
    """Split at LF, CR LF and CR. The last item is the rest; it keeps a final CR, which may be half of a CR LF."""
    head, tail = (block[:-1], b"\r") if block.endswith(b"\r") else (block, b"")
    *lines, rest = head.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return [*lines, rest + tail]


def _decode(content: bytes, place: str) -> Iterator[bytes]:
    """Yield the list in pieces, decoded if it is gzip. Raises SourceError if it is damaged or too large."""
    if not content.startswith(b"\x1f\x8b"):
        for start in range(0, len(content), _PIECE_BYTES):
            yield content[start : start + _PIECE_BYTES]
        return
    decoder, size = StreamDecoder("gzip"), 0
    try:
        for piece in chain(decoder.feed(content), decoder.end()):
            size += len(piece)
            if size > MAX_LIST_BYTES:
                raise SourceError(f"The list {place} decodes to more than {MAX_LIST_BYTES >> 20} MiB. Split it.")
            yield piece
    except Rejection as rejection:
        raise SourceError(f"The list {place} is damaged: {rejection.detail}.") from rejection


async def _read_content(source: AsyncClient, place: str, retries: int) -> bytes:
    if not is_http(place):
        return await asyncio.to_thread(_read_file, place)

    async def read() -> bytes:
        async with source.get(place) as response:
            if response.status in TRANSIENT_STATUSES:
                raise transient_error(response)
            if response.status not in (200, 203):
                raise SourceError(
                    f"Cannot read the list {place}: the server answered {response.status} {response.head.reason[:80]}."
                )
            return await read_plain(response, MAX_LIST_BYTES)

    try:
        return await with_retries(read, place, retries)
    except Rejection as rejection:
        raise SourceError(f"Cannot read the list {place}: {explain(rejection)}") from rejection


def _read_file(place: str) -> bytes:
    import fsspec

    refuse_http_file_system(place)
    try:
        fs, path = fsspec.core.url_to_fs(place)
        with fs.open(path, "rb") as file:
            content = bytes(file.read(MAX_LIST_BYTES + 1))
    except Exception as error:
        raise SourceError(f"Cannot read the list {place}: {error}.") from error
    if len(content) > MAX_LIST_BYTES:
        raise SourceError(f"The list {place} is larger than {MAX_LIST_BYTES >> 20} MiB. Split it.")
    return content
