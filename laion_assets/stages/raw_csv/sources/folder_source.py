"""A local folder or an object store as a source, listed and copied by fsspec in threads."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from laion_assets.errors import SourceError
from laion_assets.http.listings.file_path import distinct_paths, is_safe
from laion_assets.http.listings.file_pattern import compile_pattern
from laion_assets.http.listings.listing import Listed, Listing
from laion_assets.http.sources.retry import TransientError, with_retries
from laion_assets.stages.raw_csv.transfers.partial_files import Origin, Partials
from laion_assets.stages.raw_csv.transfers.transfer import Fetched
from laion_assets.store.own_outputs import OwnOutputs

_PIECE_BYTES = 1 << 20


class FolderSource:
    """A folder of any fsspec file system, with all folders below it."""

    def __init__(self, url: str, pattern: str, retries: int, own: OwnOutputs, count: Callable[[int], None]) -> None:
        self._url, self._match, self._retries, self._count = url, compile_pattern(pattern), retries, count
        self._own = own
        self._fs: Any = None
        self._origins: dict[str, Origin] = {}

    async def list_files(self) -> Listing:
        """List the files whose path matches the pattern, at any depth. Others are left out and counted by reason.

        The reasons are `other_pattern` (does not match), `unsafe_name`, and `not_a_file` (a folder with the name of a
        file, a pipe, a broken link). Linked folders are not followed. Files that this project wrote are skipped. Raises
        SourceError if the folder does not exist, SettingError if it is the dataset's own folder.
        """
        base, found = await asyncio.to_thread(self._find_files)
        listing = Listing()
        self._own.refuse_inside(self._fs, base, "source", self._url)
        own = self._own.among(self._fs, base, found)
        if own:
            listing.remarks.append(f"skipped {len(own):,} files written by this project below {self._own.root}")
        paths: dict[str, str] = {}
        for name in sorted(found.keys() - own):
            path = name.removeprefix(base).lstrip("/") or name.rsplit("/", 1)[-1]
            if not self._match.search(path):
                listing.leave_out("other_pattern", path)
            elif not is_safe(path):
                listing.leave_out("unsafe_name", path)
            elif found[name].get("type") == "other" and not os.path.isfile(name):
                listing.leave_out("not_a_file", path)
            else:
                paths[path] = name
        places = distinct_paths(paths)
        for path, name in paths.items():
            self._origins[name] = origin = _read_origin(name, found[name])
            listing.files.append(Listed(places[path], name, origin.size, origin.version))
        return listing

    async def fetch(self, listed: Listed, partials: Partials, committed: Origin | None) -> Fetched:
        """Copy one file into `partials`, unless it is there, or committed, with the same size and date or entity tag.

        Raises SourceError naming the file after the retries.
        """
        origin = self._origins[listed.url]
        if committed and origin.same_as(committed):
            return Fetched("unchanged", committed)
        held = partials.held(listed.path)
        if held and held.sha256 and origin.same_as(held.origin):
            return Fetched("fetched", origin, 0, held.size, held.sha256)

        async def copy() -> Fetched:
            return await asyncio.to_thread(self._copy, listed, partials, origin)

        return await with_retries(copy, listed.url, self._retries)

    async def compare(self, listed: Listed, committed: Origin) -> str:
        """Compare the size and date, or the entity tag, of a file with those of its committed version.

        If the file system has neither a date nor a tag, only another size is a change.
        """
        found = self._origins[listed.url]
        same = found.same_as(committed) if found.etag or found.last_modified else found.size == committed.size
        return "unchanged" if same else "changed"

    def _copy(self, listed: Listed, partials: Partials, origin: Origin) -> Fetched:
        download = partials.begin(listed.path, origin, "")
        try:
            with self._fs.open(listed.url, "rb") as source:
                while piece := source.read(_PIECE_BYTES):
                    download.write(piece)
                    self._count(len(piece))
        except FileNotFoundError:
            return Fetched("deleted_at_source", origin)
        finally:
            download.close()
        if download.size != origin.size:
            raise TransientError(f"received {download.size} of {origin.size} bytes")
        held = download.finish(origin)
        return Fetched("fetched", origin, held.size, held.size, held.sha256)

    def _find_files(self) -> tuple[str, dict[str, dict[str, Any]]]:
        import fsspec

        try:
            self._fs, base = fsspec.core.url_to_fs(self._url)
            self._fs.invalidate_cache()
            found = self._fs.find(base, detail=True)
            if not found and not self._fs.exists(base):
                raise FileNotFoundError(base)
        except Exception as error:
            raise SourceError(f"Cannot list the source {self._url}: {error}.") from error
        return base.rstrip("/"), found


def _read_origin(name: str, info: dict[str, Any]) -> Origin:
    stamp = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("updated") or ""
    return Origin(name, str(info.get("ETag") or info.get("etag") or ""), str(stamp), int(info.get("size") or 0))
