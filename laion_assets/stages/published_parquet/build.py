"""Published parquet files as a dataset's source: what is there, seen and written down; they are read where they lie."""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import IO
from urllib.parse import unquote

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError, SettingError, SourceError
from laion_assets.http.sources.range_file import open_range_file
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.urls.places import is_http, refuse_http_file_system
from laion_assets.stages.handles import PUBLISHED_PARQUET, PublishedParquet
from laion_assets.stages.raw_csv.sources.dataset_policy import source_policy
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import WHOLE, Counts, Manifest, read_committed_file, read_manifest
from laion_assets.store.own_outputs import OwnOutputs
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover
from laion_assets.tables.table_limits import TableLimits

_THREADS = 16
_MAX_FOOTER_BYTES = 1 << 30
_MAX_LIST_BYTES = 256 << 20
_STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "Last-Modified")


@dataclass(frozen=True)
class PublishedFile:
    """One parquet file: `path` names it in `source_file`, `version` is its entity tag or date as its store gives it.

    `footer` is the sha256 of the parquet footer, which holds the places and statistics of all column chunks.
    """

    path: str
    url: str
    size: int
    version: str
    rows: int = -1
    footer: str = ""

    def same_version(self, other: "PublishedFile") -> bool:
        """Whether the store says that nothing changed, as far as it says anything."""
        return bool(self.version) and (self.size, self.version) == (other.size, other.version)


def observe_published(dataset: Dataset, store: Store, log: Callable[[str], None]) -> Manifest:
    """Look at the files that `published` names, and publish the list of them as `published_parquet/files.json`.

    Nothing else is copied. Only footers are read, and only of files that changed since the last look. Raises
    SettingError where nothing is named, SourceError naming the file that is missing or no parquet file, or that lacks
    the columns of a url and a caption.
    """
    earlier = recover(store, PUBLISHED_PARQUET)
    known: dict[str, PublishedFile] = {}
    if earlier:
        with suppress(IntegrityError):  # A list that was altered is made anew.
            known = {each.url: each for each in read_list(store)}
    policy = source_policy(dataset)
    files = list(_listed(dataset, policy, log))

    def seen(file: PublishedFile) -> PublishedFile:
        before = known.get(file.url)
        is_known = before is not None and before.path == file.path and before.same_version(file)
        return before if before is not None and is_known else _with_footer(file, policy)

    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="footer") as pool:
        found = list(pool.map(seen, files))
    changed = sum(known.get(file.url) != file for file in found)
    rows = sum(file.rows for file in found)
    log(f"{len(found):,} parquet files with {rows:,} rows, {changed:,} of them new or changed")
    with open_transaction(store, PUBLISHED_PARQUET) as transaction:
        transaction.stage(PublishedParquet.LIST).write_text(
            json.dumps([asdict(file) for file in found], indent=1), encoding="utf-8"
        )
        return transaction.commit(
            Counts(len(found), len(found)),
            settings=settings_digest(dataset, PUBLISHED_PARQUET),
            inputs="",
            details={"rows": rows, "bytes": sum(file.size for file in found)},
        )


def read_list(store: Store) -> list[PublishedFile]:
    """What the last look saw. Raises IncompleteError where there was none, IntegrityError for an altered list."""
    manifest = read_manifest(store, PUBLISHED_PARQUET, WHOLE)
    if manifest is None:
        raise IncompleteError(f"{PUBLISHED_PARQUET} is not observed in {store.url}: observe it first.")
    content = read_committed_file(store, manifest.entry(PublishedParquet.LIST), _MAX_LIST_BYTES)
    try:
        return [PublishedFile(**fields) for fields in json.loads(content)]
    except (ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{store.address(PublishedParquet.LIST)} is not a list of files ({error}): observe "
            f"{PUBLISHED_PARQUET} again."
        ) from error


@contextmanager
def open_published(file: PublishedFile, policy: SourcePolicy) -> Iterator[IO[bytes]]:
    """A published file, read in place. Raises IntegrityError if it is another one than was seen."""
    described = _described(file.url, file.path, policy)
    if not described.same_version(file) and _with_footer(file, policy) != file:
        raise IntegrityError(f"{file.url} changed since it was looked at: observe {PUBLISHED_PARQUET} again.")
    with _opened(file.url, policy) as opened:
        yield opened


def _listed(dataset: Dataset, policy: SourcePolicy, log: Callable[[str], None]) -> Iterator[PublishedFile]:
    """The files that the setting names: files, folders (every .parquet below), patterns with *, listings over http.

    `*` is the only sign of a pattern, and none where a file has that name. The dataset's own outputs are no input.
    """
    if not dataset.published:
        raise SettingError(
            f"the dataset {dataset.name} names no published parquet files: set published, for example "
            f"LAION_ASSETS_{dataset.name.upper()}_PUBLISHED=/path/to/folder."
        )
    found: dict[str, PublishedFile] = {}
    for named in dataset.published:
        count = 0
        for file in _files_of(named, dataset, policy, log):
            if found.setdefault(file.path, file).url != file.url:
                raise SourceError(
                    f"{found[file.path].url} and {file.url} have one name, and rows are traced back by it: name the "
                    "folder that holds both, or rename one."
                )
            count += 1
        if not count:
            raise SourceError(f"published names {named}, where no parquet file is: correct or remove it.")
    yield from (found[path] for path in sorted(found))


def _files_of(
    named: str, dataset: Dataset, policy: SourcePolicy, log: Callable[[str], None]
) -> Iterator[PublishedFile]:
    if is_http(named):
        yield from _web_files(named, dataset, policy)
        return
    import fsspec

    refuse_http_file_system(named)
    own = OwnOutputs.of(dataset)
    try:
        fs, base = fsspec.core.url_to_fs(named)
        if "*" in base and not fs.exists(base):
            found = fs.glob(base.replace("[", "[[]").replace("?", "[?]"), detail=True)
            top = base.split("*", 1)[0].rpartition("/")[0]
        elif _is_parquet(base) and not fs.isdir(base):
            found, top = {base: {}}, base.rpartition("/")[0]
        else:
            found, top = fs.find(base, detail=True), base.rstrip("/")
        own_files = own.among(fs, top, found)
    except Exception as error:
        raise SourceError(f"published names {named}, which cannot be listed: {error}.") from error
    own.refuse_inside(fs, top, "published", named)
    others = {path for path in found.keys() - own_files if not _is_parquet(path)} if "*" not in base else set()
    for files, what in ((own_files, "that this project wrote"), (others, "that are not named .parquet")):
        if files:
            log(f"{named}: {len(files):,} files {what} are not read")
    for path in sorted(found.keys() - own_files - others):
        yield _described(fs.unstrip_protocol(path), path.removeprefix(top).lstrip("/"), policy)


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _web_files(named: str, dataset: Dataset, policy: SourcePolicy) -> Iterator[PublishedFile]:
    """One file, the files of a directory listing, or those of a listing that a pattern with `*` matches."""
    from laion_assets.stages.raw_csv.sources.source import list_tree

    if _is_parquet(named) and "*" not in named:
        yield _described(named, unquote(named.rpartition("/")[2]), policy)
        return
    folder, pattern = named, r"\.parquet$"
    if "*" in named:
        folder = named.split("*", 1)[0].rpartition("/")[0] + "/"
        parts = (re.escape(part) for part in named.removeprefix(folder).split("*"))
        pattern = f"^{'[^/]*'.join(parts)}$"
    for each in list_tree(dataset, folder, pattern):
        yield _described(each.url, each.path, policy)


def _described(url: str, name: str, policy: SourcePolicy) -> PublishedFile:
    if is_http(url):
        with open_range_file(url, policy) as (_, file):
            return PublishedFile(name, url, file.size, file.version)
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url)
        info = fs.info(path)
    except Exception as error:
        raise SourceError(f"the published file {url} cannot be read: {error or type(error).__name__}.") from error
    if info.get("size") is None:
        raise SourceError(f"{url} is served without its length, so its footer cannot be found: copy it to a folder.")
    version = next((str(info[stamp]) for stamp in _STAMPS if info.get(stamp)), "")
    return PublishedFile(name, url, int(info["size"]), version)


@contextmanager
def _opened(url: str, policy: SourcePolicy) -> Iterator[IO[bytes]]:
    if is_http(url):
        with open_range_file(url, policy) as (file, _):
            yield file
        return
    import fsspec

    fs, path = fsspec.core.url_to_fs(url)
    with fs.open(path, "rb") as file:
        yield file


def _with_footer(file: PublishedFile, policy: SourcePolicy) -> PublishedFile:
    """The file with its rows and the digest of its footer; refuses what the next stage could not read."""
    from laion_assets.tables.parquet_process import open_parquet

    try:
        with _opened(file.url, policy) as opened, open_parquet(opened, file.url, TableLimits()) as parquet:
            return PublishedFile(file.path, file.url, file.size, file.version, parquet.rows, parquet.footer_sha256)
    except OSError as error:
        raise SourceError(f"the published file {file.url} cannot be read: {error}.") from error
