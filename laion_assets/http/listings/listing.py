"""Listing of a directory tree over HTTP: folders are followed, links to places outside the tree are not."""

import asyncio
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import unquote, urljoin, urlsplit

from laion_assets.errors import SourceError
from laion_assets.http.listings.file_path import distinct_paths, is_safe
from laion_assets.http.listings.file_pattern import compile_pattern
from laion_assets.http.listings.listing_page import Entry, parse_links
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.async_connection import read_plain
from laion_assets.http.sources.background_loop import run_in_background
from laion_assets.http.sources.retry import TRANSIENT_STATUSES, explain, transient_error, with_retries
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.reasons import Rejection

MAX_DEPTH = 16
"""Maximum depth of folders that are followed."""
MAX_FILES = 5_000_000
MAX_FOLDERS = 200_000
MAX_PAGE_BYTES = 64 << 20
"""Maximum size of a listing page: 64 MiB list about 500,000 files."""
_PARALLEL_PAGES = 16
_SIMPLE = re.compile(r"[\w.~%+,@=-]+/?\Z", re.ASCII)
"""A link that is a plain name and needs no resolution."""
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a source: its path below `raw_csv/`, its URL or fsspec path, its size in bytes, -1 if unknown.

    `version` is its entity tag and date, empty if the listing has neither.
    """

    path: str
    url: str
    size: int = -1
    version: str = ""


@dataclass
class Listing:
    """The files of a source, sorted by path; the number of left-out names by reason; remarks for the log."""

    files: list[Listed] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, name: str) -> None:
        """Count a name that is not fetched. The first few become remarks."""
        self.left_out[reason] += 1
        if self.left_out[reason] <= _MAX_NAMED:
            self.remarks.append(f"left out, {reason}: {name[:300]!r}")


async def list_http(source: AsyncClient, url: str, pattern: str, retries: int) -> Listing:
    """List the files of a directory tree over HTTP whose path matches `pattern`.

    If the URL itself matches, it is the only file. Left out and counted are names that do not match (`other_pattern`),
    unsafe names (`unsafe_name`), deleted folders (`folder_deleted_at_source`), folders that list one of their parents
    (`listing_loop`) and folders below MAX_DEPTH (`too_deep`). Links to places outside the tree are ignored. Raises
    SourceError naming a page that cannot be read.
    """
    match = compile_pattern(pattern)
    path = urlsplit(url).path
    if match.search(path) and not path.endswith("/"):
        name = unquote(path.rsplit("/", 1)[-1])
        if not is_safe(name):
            raise SourceError(f"The URL {url} ends in the unsafe file name {name!r}.")
        return Listing([Listed(name, url)])
    root = url.split("#")[0].split("?")[0]
    return await _Tree(source, root if root.endswith("/") else f"{root}/", match, retries).walk()


def list_tree(url: str, pattern: str, policy: SourcePolicy) -> list[Listed]:
    """List the files of a directory tree over HTTP whose path matches, from synchronous code. Raises SourceError."""

    async def read() -> Listing:
        async with AsyncClient(policy) as client:
            return await list_http(client, url, pattern, policy.retries)

    return run_in_background(read, 1).files


class _Tree:
    """A walk over the pages of a tree. Each page is read once."""

    def __init__(self, source: AsyncClient, root: str, match: re.Pattern[str], retries: int) -> None:
        self._source, self._root, self._match, self._retries = source, root, match, retries
        self._listing = Listing()
        self._files: dict[str, Listed] = {}
        self._folders = {""}
        self._others: set[str] = set()
        self._todo: asyncio.Queue[tuple[str, str, tuple[bytes, ...]]] = asyncio.Queue()

    async def walk(self) -> Listing:
        self._todo.put_nowait(("", self._root, ()))
        workers = [asyncio.create_task(self._work()) for _ in range(_PARALLEL_PAGES)]
        finished = asyncio.create_task(self._todo.join())
        try:
            await asyncio.wait([finished, *workers], return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                if worker.done():
                    worker.result()
        finally:
            for task in (finished, *workers):
                task.cancel()
            await asyncio.gather(finished, *workers, return_exceptions=True)
        places = distinct_paths(self._files)
        self._listing.files = [
            Listed(places[path], listed.url, listed.size) for path, listed in sorted(self._files.items())
        ]
        return self._listing

    async def _work(self) -> None:
        while True:
            folder, url, above = await self._todo.get()
            await self._read_folder(folder, url, above)
            self._todo.task_done()

    async def _read_folder(self, folder: str, url: str, above: tuple[bytes, ...]) -> None:
        """Read the page of one folder. `above` are the digests of the names on its parents' pages."""
        try:
            page = await with_retries(lambda: self._read_page(url, folder), url, self._retries)
        except Rejection as rejection:
            raise SourceError(f"Cannot read the listing {url}: {explain(rejection)}") from rejection
        if page is None:
            self._listing.leave_out("folder_deleted_at_source", folder)
            return
        base, entries = page
        if not folder and base != self._root:
            self._root = base
        names = _compute_digest({entry.href for entry in entries})
        own_name = f"{folder.rstrip('/').rpartition('/')[2]}/"
        if folder and names in above and any(unquote(entry.href) == own_name for entry in entries):
            self._listing.leave_out("listing_loop", folder)
            return
        for entry in entries:
            self._add_entry(entry, base, folder, (*above, names))

    def _add_entry(self, entry: Entry, base: str, folder: str, above: tuple[bytes, ...]) -> None:
        href = entry.href
        if _SIMPLE.match(href) and not href.startswith("."):
            target, path = base + href, folder + (unquote(href) if "%" in href else href)
        else:
            found = resolve_link(self._root, base, href)
            if found is None:
                return
            target, path = found
        is_folder = path.endswith("/")
        name = path.removesuffix("/")
        if not is_folder and not self._match.search(path):
            if path not in self._others:
                self._others.add(path)
                self._listing.leave_out("other_pattern", path)
            return
        if not is_safe(name):
            self._listing.leave_out("unsafe_name", path)
        elif not is_folder:
            self._files.setdefault(path, Listed(path, target, entry.size))
            if len(self._files) > MAX_FILES:
                raise SourceError(f"{self._root} lists more than {MAX_FILES:,} files. Set source to a part of it.")
        elif path not in self._folders and path != folder:
            self._folders.add(path)
            if path.count("/") > MAX_DEPTH:
                self._listing.leave_out("too_deep", path)
            elif len(self._folders) > MAX_FOLDERS:
                raise SourceError(f"{self._root} has more than {MAX_FOLDERS:,} folders. Set source to a part of it.")
            else:
                self._todo.put_nowait((path, target, above))

    async def _read_page(self, url: str, folder: str) -> tuple[str, list[Entry]] | None:
        """Return the URL that a page's links are relative to, and its links. None if the page was deleted.

        Raises SourceError, TransientError.
        """
        async with self._source.get(url) as response:
            if response.status in TRANSIENT_STATUSES:
                raise transient_error(response)
            if response.status in (404, 410) and folder:
                return None
            if response.status not in (200, 203):
                reason = response.head.reason[:80]
                raise SourceError(
                    f"Cannot read the listing {url}: the server answered {response.status} {reason}. "
                    "Is the URL a directory listing?"
                )
            body = await read_plain(response, MAX_PAGE_BYTES)
            base = response.url.split("#")[0].split("?")[0].rpartition("/")[0] + "/"
            text = body.decode(errors="replace")
            return base, list(parse_links(text, response.head.get("content-type") or "", url))


def _compute_digest(names: set[str]) -> bytes:
    """Return a digest of the links of a page, to recognise pages with the same links in 32 bytes of memory each."""
    return hashlib.sha256("\n".join(sorted(names)).encode("utf-8", "surrogatepass")).digest()


def resolve_link(root: str, base: str, href: str) -> tuple[str, str] | None:
    """Resolve a page's link to its URL and its decoded path below the root.

    Returns None for links with a query, links of other schemes, and links to places outside the tree. The path may be
    unsafe: check it with `is_safe`.
    """
    try:
        target = urljoin(base, href)
        parts = urlsplit(target)
    except ValueError:
        return None
    if parts.query or "?" in href or parts.scheme not in ("http", "https"):
        return None
    target = target.split("#")[0]
    if not target.startswith(root) or target == root:
        return None
    return target, unquote(target.removeprefix(root))
