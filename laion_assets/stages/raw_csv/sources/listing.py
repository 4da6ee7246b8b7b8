"""Which files a tree of directory pages has: folders are followed, nothing out of the tree is."""

import asyncio
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import unquote, urljoin, urlsplit

from laion_assets.errors import SourceError
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.async_connection import read_plain
from laion_assets.reasons import Rejection
from laion_assets.stages.raw_csv.sources.file_path import distinct_paths, is_safe
from laion_assets.stages.raw_csv.sources.file_pattern import compile_pattern
from laion_assets.stages.raw_csv.sources.listing_page import Entry, entries_of
from laion_assets.stages.raw_csv.transfers.retry import TRANSIENT_STATUSES, explain, transient, with_retries

MAX_DEPTH = 16
"""Folders below the source's own that are followed."""
MAX_FILES = 5_000_000
MAX_FOLDERS = 200_000
MAX_PAGE_BYTES = 64 << 20
"""A listing page is read up to this size: 64 MiB list 500,000 files."""
_PAGES_AT_ONCE = 16
_SIMPLE = re.compile(r"[\w.~%+,@=-]+/?\Z", re.ASCII)
"""A link that is a name: nothing to resolve."""
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a source: its path below `raw_csv/`, what to fetch it by, its size in bytes if known, else -1."""

    path: str
    url: str
    size: int = -1


@dataclass
class Listing:
    """What a source has: the files, sorted; names left out by reason; remarks for the log."""

    files: list[Listed] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, name: str) -> None:
        """Count a name that is not fetched, and say the first few."""
        self.left_out[reason] += 1
        if self.left_out[reason] <= _MAX_NAMED:
            self.remarks.append(f"left out, {reason}: {name[:300]!r}")


async def list_http(source: AsyncClient, url: str, pattern: str, retries: int) -> Listing:
    """Files of a directory tree over HTTP whose path matches.

    A URL that matches the pattern itself is that one file. Names that do not match are left out as `other_pattern`,
    names that are not safe as `unsafe_name`, deleted folders as `folder_deleted_at_source`, a folder that lists one of
    its parents as `listing_loop`. Links out of the tree are ignored. Raises SourceError for a page that cannot be read,
    naming it.
    """
    match = compile_pattern(pattern)
    path = urlsplit(url).path
    if match.search(path) and not path.endswith("/"):
        name = unquote(path.rsplit("/", 1)[-1])
        if not is_safe(name):
            raise SourceError(f"{url} ends in a name that no file may have: {name!r}.")
        return Listing([Listed(name, url)])
    root = url.split("#")[0].split("?")[0]
    return await _Tree(source, root if root.endswith("/") else f"{root}/", match, retries).walk()


class _Tree:
    """A walk over the pages of a tree, each read once."""

    def __init__(self, source: AsyncClient, root: str, match: re.Pattern[str], retries: int) -> None:
        self._source, self._root, self._match, self._retries = source, root, match, retries
        self._listing = Listing()
        self._files: dict[str, Listed] = {}
        self._folders = {""}
        self._others: set[str] = set()
        self._todo: asyncio.Queue[tuple[str, str, tuple[bytes, ...]]] = asyncio.Queue()

    async def walk(self) -> Listing:
        self._todo.put_nowait(("", self._root, ()))
        workers = [asyncio.create_task(self._work()) for _ in range(_PAGES_AT_ONCE)]
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
            await self._folder(folder, url, above)
            self._todo.task_done()

    async def _folder(self, folder: str, url: str, above: tuple[bytes, ...]) -> None:
        """Read one folder's page; `above` are the digests of the names on its parents' pages."""
        try:
            page = await with_retries(lambda: self._page(url, folder), url, self._retries)
        except Rejection as rejection:
            raise SourceError(f"the listing {url} cannot be read: {explain(rejection)}") from rejection
        if page is None:
            self._listing.leave_out("folder_deleted_at_source", folder)
            return
        base, entries = page
        if not folder and base != self._root:
            self._root = base
        names = _digest_of({entry.href for entry in entries})
        own_name = f"{folder.rstrip('/').rpartition('/')[2]}/"
        if folder and names in above and any(unquote(entry.href) == own_name for entry in entries):
            self._listing.leave_out("listing_loop", folder)
            return
        for entry in entries:
            self._entry(entry, base, folder, (*above, names))

    def _entry(self, entry: Entry, base: str, folder: str, above: tuple[bytes, ...]) -> None:
        href = entry.href
        if _SIMPLE.match(href) and not href.startswith("."):
            target, path = base + href, folder + (unquote(href) if "%" in href else href)
        else:
            found = below(self._root, base, href)
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
                raise SourceError(f"{self._root} lists more than {MAX_FILES:,} files: name a part of it as the source.")
        elif path not in self._folders and path != folder:
            self._folders.add(path)
            if path.count("/") > MAX_DEPTH:
                self._listing.leave_out("too_deep", path)
            elif len(self._folders) > MAX_FOLDERS:
                raise SourceError(f"{self._root} has more than {MAX_FOLDERS:,} folders: name a part of it.")
            else:
                self._todo.put_nowait((path, target, above))

    async def _page(self, url: str, folder: str) -> tuple[str, list[Entry]] | None:
        """A page's own URL and its links; None if it is gone. Raises SourceError, TransientError."""
        async with self._source.get(url) as response:
            if response.status in TRANSIENT_STATUSES:
                raise transient(response)
            if response.status in (404, 410) and folder:
                return None
            if response.status not in (200, 203):
                reason = response.head.reason[:80]
                raise SourceError(f"{url} answers {response.status} {reason}: is it a directory listing?")
            body = await read_plain(response, MAX_PAGE_BYTES)
            base = response.url.split("#")[0].split("?")[0].rpartition("/")[0] + "/"
            text = body.decode(errors="replace")
            return base, list(entries_of(text, response.head.get("content-type") or "", url))


def _digest_of(names: set[str]) -> bytes:
    """What tells pages with the same links apart from others, in 32 bytes, for every folder that is still to read."""
    return hashlib.sha256("\n".join(sorted(names)).encode("utf-8", "surrogatepass")).digest()


def below(root: str, base: str, href: str) -> tuple[str, str] | None:
    """The URL of a page's link and its decoded path below the root; None for queries, other schemes and other places.

    The path may be one that no file may have: `is_safe` says.
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
