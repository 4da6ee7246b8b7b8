"""The files that the setting `published` names."""

import re
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError, SourceError
from laion_assets.http.listings.listing import list_tree
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.urls.places import is_http, refuse_http_file_system
from laion_assets.store.own_outputs import OwnOutputs
from laion_assets.tables.published_files import PublishedFile, describe_file


def list_published_files(dataset: Dataset, policy: SourcePolicy, log: Callable[[str], None]) -> list[PublishedFile]:
    """List the published files of a dataset, sorted by path, without rows and footers.

    An entry of `published` is a file, a folder (every .parquet file below it), a pattern with `*`, or a directory
    listing over HTTP. Only `*` makes a pattern, and not if a file has that name. The dataset's own outputs are left
    out. Raises SettingError if `published` is empty, SourceError for an entry without parquet files and for two files
    with the same path.
    """
    if not dataset.published:
        raise SettingError(
            f"The dataset {dataset.name} names no published parquet files. Set published, for example "
            f"LAION_ASSETS_{dataset.name.upper()}_PUBLISHED=/path/to/folder."
        )
    found: dict[str, PublishedFile] = {}
    for entry in dataset.published:
        count = 0
        for file in _list_entry(entry, dataset, policy, log):
            if found.setdefault(file.path, file).url != file.url:
                raise SourceError(
                    f"{found[file.path].url} and {file.url} have the same name {file.path!r}, which source_file could "
                    "not distinguish. Set published to the folder that holds both, or rename one of them."
                )
            count += 1
        if not count:
            raise SourceError(f"No parquet files in {entry}, an entry of published. Correct or remove the entry.")
    return [found[path] for path in sorted(found)]


def _list_entry(
    entry: str, dataset: Dataset, policy: SourcePolicy, log: Callable[[str], None]
) -> Iterator[PublishedFile]:
    if is_http(entry):
        yield from _list_http(entry, policy)
        return
    import fsspec

    refuse_http_file_system(entry)
    own = OwnOutputs.of(dataset)
    try:
        fs, base = fsspec.core.url_to_fs(entry)
        if "*" in base and not fs.exists(base):
            found = fs.glob(base.replace("[", "[[]").replace("?", "[?]"), detail=True)
            top = base.split("*", 1)[0].rpartition("/")[0]
        elif _is_parquet(base) and not fs.isdir(base):
            found, top = {base: {}}, base.rpartition("/")[0]
        else:
            found, top = fs.find(base, detail=True), base.rstrip("/")
        own_files = own.among(fs, top, found)
    except Exception as error:
        raise SourceError(f"Cannot list {entry}, an entry of published: {error}.") from error
    own.refuse_inside(fs, top, "published", entry)
    others = {path for path in found.keys() - own_files if not _is_parquet(path)} if "*" not in base else set()
    for skipped, why in ((own_files, "written by this project"), (others, "not named .parquet")):
        if skipped:
            log(f"{entry}: skipped {len(skipped):,} files {why}")
    for path in sorted(found.keys() - own_files - others):
        yield describe_file(fs.unstrip_protocol(path), path.removeprefix(top).lstrip("/"), policy)


def _list_http(entry: str, policy: SourcePolicy) -> Iterator[PublishedFile]:
    """Yield one file, the files of a directory listing, or the files of a listing that match a pattern with `*`."""
    if _is_parquet(entry) and "*" not in entry:
        yield describe_file(entry, unquote(entry.rpartition("/")[2]), policy)
        return
    folder, pattern = entry, r"\.parquet$"
    if "*" in entry:
        folder = entry.split("*", 1)[0].rpartition("/")[0] + "/"
        parts = (re.escape(part) for part in entry.removeprefix(folder).split("*"))
        pattern = f"^{'[^/]*'.join(parts)}$"
    for listed in list_tree(folder, pattern, policy):
        yield describe_file(listed.url, listed.path, policy)


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")
