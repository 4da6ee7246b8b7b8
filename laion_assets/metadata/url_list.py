"""A list of URLs as a source, `list:PLACE`: one URL a line, in a file, at an fsspec URL or on the web; gzip too."""

import gzip
import re
import zlib
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from laion_assets.errors import SourceError
from laion_assets.metadata.file_path import distinct_paths, is_safe, marked
from laion_assets.metadata.file_pattern import compile_pattern
from laion_assets.metadata.http_source import HttpSource, host_of
from laion_assets.metadata.listing import Listed, Listing
from laion_assets.metadata.retry import TRANSIENT_STATUSES, TransientError, retry_after_s, with_retries

PREFIX = "list:"
MAX_URL_CHARS = 8_192
MAX_LIST_BYTES = 2 << 30
_MAX_NAMED = 10


async def read_url_list(source: HttpSource, place: str, pattern: str, retries: int) -> Listing:
    """The files that a list names, each below a folder of its host: `http://a.test:81/x/1.csv` is `a.test_81/x/1.csv`.

    Empty lines and those that begin with `#` are skipped, a URL that stands twice is fetched once. A URL that does not
    match is left out as `other_pattern`. Raises SourceError naming the lines that are no http or https URLs with a path
    that a file may have, and for a list that cannot be read.
    """
    match = compile_pattern(pattern)
    listing = Listing()
    found: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in _lines(await _content(source, place, retries), place):
        url = line.strip().split("#")[0]
        if not url:
            continue
        try:
            path = _path_of(url, match)
        except SourceError as error:
            wrong.append(f"line {number}: {error}")
            continue
        if path is None:
            listing.leave_out("other_pattern", url)
        elif found.setdefault(path, url) != url:
            # One path, two URLs: http beside https, or another spelling of the path.
            found.setdefault(marked(path, url), url)
    if wrong:
        more = f"\nand {len(wrong) - _MAX_NAMED:,} more" if len(wrong) > _MAX_NAMED else ""
        raise SourceError(
            f"{len(wrong):,} lines of {place} name no file: correct them or put # before them.\n"
            + "\n".join(wrong[:_MAX_NAMED])
            + more
        )
    places = distinct_paths(found)
    listing.files = sorted((Listed(places[path], url) for path, url in found.items()), key=lambda each: each.path)
    return listing


def _path_of(url: str, match: re.Pattern[str]) -> str | None:
    """The path of a URL's file, None if the URL does not match. Raises SourceError."""
    if len(url) > MAX_URL_CHARS or re.search(r"[\x00-\x20\x7f]", url):
        raise SourceError(f"{url[:100]!r} is too long, or has spaces or control characters in it.")
    scheme, host, port = host_of(url)
    parts = urlsplit(url)
    matched = match.search(parts.path) or match.search(url)
    if matched is None:
        return None
    folder = host.replace(":", "_") + ("" if port == (443 if scheme == "https" else 80) else f"_{port}")
    path = f"{folder}/{unquote(parts.path).lstrip('/')}"
    if parts.query:
        path = marked(path, url)
        path += "" if match.search(path) else matched.group(0)
    if path.endswith("/") or not is_safe(path):
        raise SourceError(f"{url[:200]!r} has a path that no file may have.")
    return path


def _lines(content: bytes, place: str) -> Iterator[tuple[int, str]]:
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{place} is damaged: {error}.") from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        yield number, line.decode(errors="replace")


async def _content(source: HttpSource, place: str, retries: int) -> bytes:
    if not place.lower().startswith(("http://", "https://")):
        import fsspec

        try:
            fs, path = fsspec.core.url_to_fs(place)
            return bytes(fs.cat_file(path))
        except Exception as error:
            raise SourceError(f"the list {place} cannot be read: {error}.") from error

    async def read() -> bytes:
        async with source.get(place, {}) as answer:
            if answer.status in TRANSIENT_STATUSES:
                raise TransientError(f"{answer.status} {answer.reason}", retry_after_s(answer.headers))
            if answer.status != 200:
                raise SourceError(f"the list {place} answers {answer.status} {answer.reason}.")
            body = bytearray()
            while piece := await answer.read(1 << 18):
                body += piece
                if len(body) > MAX_LIST_BYTES:
                    raise SourceError(f"the list {place} is larger than {MAX_LIST_BYTES >> 30} GiB.")
            if not answer.complete:
                raise TransientError(f"{len(body)} of {answer.length} bytes came")
            return bytes(body)

    return await with_retries(read, place, retries)
