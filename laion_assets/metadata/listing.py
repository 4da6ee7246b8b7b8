"""Which files a source has: the links of a directory listing, the files of a folder, or one file."""

import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from laion_assets.errors import SourceError
from laion_assets.metadata.http_source import HttpSource
from laion_assets.metadata.retry import TRANSIENT_STATUSES, TransientError, retry_after_s, with_retries

MAX_DEPTH = 16
"""Folders below the source's own that are followed."""
MAX_FILES = 5_000_000
MAX_PAGE_BYTES = 64 << 20
"""A listing page is read up to this size: 64 MiB list 500,000 files."""


@dataclass(frozen=True)
class Listed:
    """One file of a source: its path below the source, and what to fetch it by."""

    path: str
    url: str


def list_http(source: HttpSource, url: str, pattern: str, threads: int, retries: int) -> list[Listed]:
    """Files of a directory listing (nginx, Apache, http.server) that match, sorted; folders are followed.

    Only links below the listing are followed, whatever else a page links to. A URL that matches the pattern itself is
    that one file. Raises SourceError for a page that cannot be read, naming it.
    """
    match = re.compile(pattern)
    root_path = urlsplit(url).path
    if match.search(root_path) and not root_path.endswith("/"):
        return [Listed(unquote(root_path.rsplit("/", 1)[-1]), url)]
    root = url.split("#")[0].split("?")[0]
    root = root if root.endswith("/") else f"{root}/"
    files: dict[str, Listed] = {}
    seen = {root}
    with ThreadPoolExecutor(max_workers=min(threads, 16), thread_name_prefix="listing") as pool:
        pending: set[Future[list[str]]] = {pool.submit(_links, source, root, retries)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for link in (link for future in done for link in future.result()):
                path = below(root, link)
                if path is None or link in seen:
                    continue
                seen.add(link)
                if link.endswith("/"):
                    if path.count("/") <= MAX_DEPTH:
                        pending.add(pool.submit(_links, source, link, retries))
                elif match.search(path):
                    files[path] = Listed(path, link)
            if len(files) > MAX_FILES:
                raise SourceError(f"{url} lists more than {MAX_FILES:,} files: name a part of it as the source.")
    return [files[path] for path in sorted(files)]


def below(root: str, link: str) -> str | None:
    """The path of a link below the root, decoded; None if it leads elsewhere or could leave a folder on disk."""
    if not link.startswith(root) or link == root:
        return None
    path = unquote(link.removeprefix(root))
    parts = path.removesuffix("/").split("/")
    if any(part in ("", ".", "..") or len(part.encode(errors="replace")) > 200 for part in parts):
        return None
    return None if re.search(r"[\x00-\x1f\x7f\\\ufffd]", path) else path


def _links(source: HttpSource, url: str, retries: int) -> list[str]:
    """The targets of a listing page's links, absolute, without queries (nginx and Apache sort by them)."""

    def read() -> str:
        with source.get(url, {}) as (response, _):
            if response.status in TRANSIENT_STATUSES:
                raise TransientError(f"{response.status} {response.reason}", retry_after_s(response))
            if response.status != 200:
                raise SourceError(f"{url} answers {response.status} {response.reason}: is it a directory listing?")
            body = response.read(MAX_PAGE_BYTES + 1)
            if len(body) > MAX_PAGE_BYTES:
                raise SourceError(f"{url} is larger than {MAX_PAGE_BYTES >> 20} MiB: is it a directory listing?")
            promised = response.headers.get("Content-Length")
            if promised and promised.isdigit() and int(promised) != len(body):
                raise ConnectionError(f"{url} gave {len(body)} of {promised} bytes")
            return body.decode(errors="replace")

    parser = _Anchors()
    parser.feed(with_retries(read, url, retries))
    targets = []
    for href in parser.hrefs:
        try:
            target = urljoin(url, href.strip())
            parts = urlsplit(target)
        except ValueError:
            continue
        if not parts.query and parts.scheme in ("http", "https"):
            targets.append(target.split("#")[0])
    return targets


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value for name, value in attrs if name == "href" and value]


def list_folder(url: str, pattern: str) -> Iterator[tuple[Listed, dict[str, object]]]:
    """Files of a local folder or fsspec URL that match, sorted, each with what the file system says of it.

    Raises SourceError if there is no such folder.
    """
    import fsspec

    match = re.compile(pattern)
    try:
        fs, base = fsspec.core.url_to_fs(url)
        found = fs.find(base, detail=True)
        if not found and not fs.exists(base):
            raise FileNotFoundError(base)
    except Exception as error:
        raise SourceError(f"the source {url} cannot be listed: {error}.") from error
    base = base.rstrip("/")
    for name, info in sorted(found.items()):
        path = name.removeprefix(base).lstrip("/") or name.rsplit("/", 1)[-1]
        if match.search(path):
            yield Listed(path, name), info
