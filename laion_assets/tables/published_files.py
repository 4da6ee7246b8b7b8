"""Parquet files that others published: described by size, version and footer, and read in place."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO

from laion_assets.errors import IntegrityError, SourceError
from laion_assets.http.sources.range_file import open_range_file
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.urls.places import is_http
from laion_assets.store.manifest import Manifest, read_committed_file
from laion_assets.store.store import Store
from laion_assets.tables.column_rules import ColumnRules
from laion_assets.tables.table_limits import TableLimits

_MAX_LIST_BYTES = 256 << 20
_VERSION_FIELDS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "Last-Modified")
"""Names that fsspec's file systems use for a file's entity tag or date."""


@dataclass(frozen=True)
class PublishedFile:
    """One published parquet file.

    `path` is its name in the column `source_file`. `version` is the entity tag or date that its store reports, empty if
    none. `footer` is the sha256 of the parquet footer, which holds the offsets and statistics of all column chunks.
    """

    path: str
    url: str
    size: int
    version: str
    rows: int = -1
    footer: str = ""

    def same_version(self, other: "PublishedFile") -> bool:
        """Whether the store reports the same size and version for both. False if it reports no version."""
        return bool(self.version) and (self.size, self.version) == (other.size, other.version)


def read_file_list(store: Store, manifest: Manifest, path: str) -> list[PublishedFile]:
    """Read the list of published files that an observation committed at `path`.

    Raises IntegrityError if the list is not the one that the manifest describes.
    """
    entry = manifest.entry(path)
    content = read_committed_file(store, entry, _MAX_LIST_BYTES)
    try:
        return [PublishedFile(**fields) for fields in json.loads(content)]
    except (ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{store.address(entry.path)} is not a list of files ({error}). Observe {manifest.asset} again."
        ) from error


@contextmanager
def open_published(file: PublishedFile, policy: SourcePolicy) -> Iterator[IO[bytes]]:
    """Open a published file for reading. Raises IntegrityError if it changed since it was observed."""
    current = describe_file(file.url, file.path, policy)
    if not current.same_version(file) and read_footer(file, policy, None) != file:
        raise IntegrityError(f"{file.url} changed since it was observed. Observe published_parquet again.")
    with _open(file.url, policy) as opened:
        yield opened


def describe_file(url: str, path: str, policy: SourcePolicy) -> PublishedFile:
    """Return size and version of a file, without its rows and footer. Raises SourceError if it cannot be read."""
    if is_http(url):
        with open_range_file(url, policy) as (_, file):
            return PublishedFile(path, url, file.size, file.version)
    import fsspec

    try:
        fs, path_in_store = fsspec.core.url_to_fs(url)
        info = fs.info(path_in_store)
    except Exception as error:
        raise SourceError(f"Cannot read the published file {url}: {error or type(error).__name__}.") from error
    if info.get("size") is None:
        raise SourceError(
            f"Cannot find the parquet footer of {url}: its server does not report its size. Copy it to a folder."
        )
    version = next((str(info[name]) for name in _VERSION_FIELDS if info.get(name)), "")
    return PublishedFile(path, url, int(info["size"]), version)


def read_footer(file: PublishedFile, policy: SourcePolicy, rules: ColumnRules | None) -> PublishedFile:
    """Return the file with its number of rows and the digest of its footer.

    None as `rules` skips the check of the columns. Raises SourceError if the file cannot be read, is not a parquet
    file, or lacks a needed or kept column.
    """
    from laion_assets.tables.parquet_process import open_parquet

    try:
        with _open(file.url, policy) as opened, open_parquet(opened, file.url, TableLimits(), rules) as parquet:
            return replace(file, rows=parquet.rows, footer=parquet.footer_sha256)
    except OSError as error:
        raise SourceError(f"Cannot read the published file {file.url}: {error}.") from error


@contextmanager
def _open(url: str, policy: SourcePolicy) -> Iterator[IO[bytes]]:
    if is_http(url):
        with open_range_file(url, policy) as (file, _):
            yield file
        return
    import fsspec

    fs, path = fsspec.core.url_to_fs(url)
    with fs.open(path, "rb") as file:
        yield file
