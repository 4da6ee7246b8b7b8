"""The files that `laion-assets init --from` names, and the settings that select exactly these files."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LaionAssetsError, SourceError
from laion_assets.http.listings.listing import Listed, Listing
from laion_assets.http.sources.background_loop import run_in_background
from laion_assets.http.sources.dataset_policy import source_policy
from laion_assets.http.urls.places import is_http
from laion_assets.stages.published_parquet.listing import list_published_files
from laion_assets.stages.raw_csv.settings import CsvSettings
from laion_assets.stages.raw_csv.sources.source import open_source

_COMPRESSED = r"(\.(gz|gzip|zst|zstd))?"
_ANY_FILE = rf"\.(csv|tsv|txt|jsonl|ndjson|json){_COMPRESSED}$|\.parquet$"
_FORMATS = {
    "parquet": re.compile(r"\.parquet$", re.IGNORECASE),
    "json_lines": re.compile(rf"\.(jsonl|ndjson|json){_COMPRESSED}$", re.IGNORECASE),
    "csv": re.compile(rf"\.(csv|tsv|txt){_COMPRESSED}$", re.IGNORECASE),
}
_FILE_ITSELF = "."
"""The pattern of a source that is one file: any name."""
_SIDE_FILES = re.compile(
    r"(^|/)(dataset_infos?|dataset_dict|state|metadata|package(-lock)?|requirements[\w.-]*|readme|license)\.(json|txt)$",
    re.IGNORECASE,
)
"""Files that describe a dataset, beside its tables."""
_REFUSED = re.compile(
    r"\.(bz2|xz|lzma|lz4|zip|7z|tar|tgz|rar|xlsx?|arrow|feather|orc|avro|tfrecord|db|sqlite)$", re.IGNORECASE
)
_NAMED = 3


@dataclass(frozen=True)
class SourceFiles:
    """The files of a new dataset, all of one `format` (csv, json_lines or parquet), sorted by path.

    `dataset` is the given one with the settings that select these files: `source` and `csv.pattern`, or `published`.
    `ignored` is the number of other files.
    """

    format: str
    files: tuple[Listed, ...]
    dataset: Dataset
    ignored: int = 0

    @property
    def size(self) -> int:
        """Size of all files in bytes, -1 if a server does not report it."""
        return -1 if any(file.size < 0 for file in self.files) else sum(file.size for file in self.files)


def find_source_files(dataset: Dataset, place: str) -> SourceFiles:
    """Find the files of a folder, file, pattern or URL. Raises SourceError if there are none or of several formats.

    `dataset` gives the root, whose own outputs are left out, and the network settings.
    """
    if not _is_utf8(place):
        raise SourceError(f"The name {place} is not valid UTF-8, so a settings file cannot hold it. Rename the folder.")
    source, pattern, is_named = split_place(place)
    listing = _list(replace(dataset, source=source, csv=replace(dataset.csv, pattern=pattern)), place)
    found: dict[str, list[Listed]] = {name: [] for name in _FORMATS}
    ignored = listing.left_out.total()
    for file in listing.files:
        name = next((name for name, match in _FORMATS.items() if match.search(file.path)), "csv")
        if _REFUSED.search(file.path):
            raise SourceError(
                f"{file.path} in {place} is of the type {PurePosixPath(file.path).suffix}, which is not read. Convert "
                "it to parquet, CSV or JSON lines; the last two may be compressed with gzip or Zstandard."
            )
        if not is_named and _SIDE_FILES.search(file.path):
            ignored += 1
        else:
            found[name].append(file)
    kinds = {name: files for name, files in found.items() if files}
    if not kinds:
        raise SourceError(
            f"No parquet, CSV or JSON lines file in {place}{_describe_others(listing)}. Name a folder, file or pattern "
            "with .parquet, .csv, .tsv, .txt, .jsonl, .ndjson or .json files; text files may end in .gz or .zst."
        )
    if len(kinds) > 1:
        counts = ", ".join(f"{len(files):,} {name} ({files[0].path})" for name, files in kinds.items())
        example = PurePosixPath(next(iter(kinds.values()))[0].path).suffix
        raise SourceError(
            f"{place} has files of several formats: {counts}. Choose one with a pattern, for example "
            f"--from '{place.rstrip('/')}/*{example}'."
        )
    name, files = next(iter(kinds.items()))
    if name == "parquet":
        return _published(dataset, place, ignored)
    if not is_named or pattern == _FILE_ITSELF:
        pattern = _pattern_for(files, listing)
    csv = dataset.csv if pattern == CsvSettings().pattern else replace(dataset.csv, pattern=pattern)
    return SourceFiles(name, tuple(files), replace(dataset, source=source, csv=csv), ignored)


def split_place(place: str) -> tuple[str, str, bool]:
    """Return the folder of a place, the pattern of its files, and whether the place names files and not a folder.

    A pattern is its fixed folder with a regular expression for the rest; `*` does not match `/`. Raises SourceError if
    the place does not exist or cannot be read.
    """
    if is_http(place):
        is_file = re.search(_ANY_FILE, place.partition("?")[0], re.IGNORECASE) is not None
        if "*" in place:
            folder = place.split("*", 1)[0].rpartition("/")[0] + "/"
            return folder, _translate(place.removeprefix(folder)), True
        return place, _ANY_FILE, is_file
    import fsspec

    from laion_assets.http.urls.places import refuse_http_file_system

    refuse_http_file_system(place)
    try:
        fs, base = fsspec.core.url_to_fs(place)
        if fs.isdir(base):
            return place, _ANY_FILE, False
        if fs.exists(base):
            return place, _FILE_ITSELF, True
    except Exception as error:
        raise SourceError(_cannot_read(place, error)) from error
    if any(sign in place for sign in "*?["):
        fixed = re.split(r"[*?\[]", place, maxsplit=1)[0]
        folder = fixed.rpartition("/")[0]
        below = place.removeprefix(f"{folder}/") if folder else place.removeprefix("/")
        return folder or ("/" if place.startswith("/") else "."), _translate(below), True
    if place.startswith("hf://"):
        raise SourceError(_cannot_read(place, FileNotFoundError("it was not found")))
    raise SourceError(f"{place} does not exist. Name a folder, a file, a pattern such as 'folder/*.csv', or a URL.")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _translate(pattern: str) -> str:
    """Return the regular expression of a pattern with `**`, `*`, `?` and `[...]`."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])", pattern)
    signs = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    written = [
        signs.get(part) or (part if part.startswith("[") and part.endswith("]") else re.escape(part)) for part in parts
    ]
    return f"^{''.join(written)}$"


def _list(dataset: Dataset, place: str) -> Listing:
    async def read() -> Listing:
        async with open_source(dataset, lambda count: None) as source:
            return await source.list_files()

    try:
        listing = run_in_background(read, 1)
        scheme = place.partition("://")[0] if "://" in place else ""
        if scheme and not is_http(place):  # fsspec lists names without their scheme
            listing.files = [replace(file, url=_add_scheme(scheme, file.url)) for file in listing.files]
        return listing
    except SourceError as error:
        raise SourceError(_cannot_read(place, error) if place.startswith("hf://") else str(error)) from error


def _add_scheme(scheme: str, name: str) -> str:
    return name if "://" in name else f"{scheme}://{name}"


def _published(dataset: Dataset, place: str, ignored: int) -> SourceFiles:
    """Return the parquet files of a place, which are read in place."""
    if not is_http(place) and "*" not in place and any(sign in place for sign in "?["):
        raise SourceError(f"{place}: a pattern of parquet files may have * only. Use * instead of ? and [...].")
    dataset = replace(dataset, published=(place,))
    found = list_published_files(dataset, source_policy(dataset), lambda line: None)
    return SourceFiles("parquet", tuple(Listed(file.path, file.url, file.size) for file in found), dataset, ignored)


def _pattern_for(files: list[Listed], listing: Listing) -> str:
    """Return `csv.pattern` for the files of a folder: the widest usual one that selects the same files."""
    paths = {file.path for file in files}
    for usual in (CsvSettings().pattern, rf"\.(csv|tsv|txt){_COMPRESSED}$", rf"\.(jsonl|ndjson|json){_COMPRESSED}$"):
        if {file.path for file in listing.files if re.search(usual, file.path, re.IGNORECASE)} == paths:
            return usual
    ends = [re.search(_ANY_FILE, path, re.IGNORECASE) for path in sorted(paths)]
    if not all(ends):
        return f"^({'|'.join(map(re.escape, sorted(paths)))})$"
    pattern = f"({'|'.join(sorted({re.escape(end[0].lower()) for end in ends if end}))})$"
    others = [file.path for file in listing.files if file.path not in paths and re.search(pattern, file.path, re.I)]
    without = f"^(?!({'|'.join(map(re.escape, others))})$).*" if others else ""
    return without + pattern


def _describe_others(listing: Listing) -> str:
    others = listing.left_out.total()
    endings = Counter(re.findall(r"left out, \w+: '.*(\.\w+)'", "\n".join(listing.remarks)))
    shown = ", ".join(end for end, _ in endings.most_common(_NAMED))
    return f", but {others:,} other files{f' ({shown})' if shown else ''}" if others else ""


def _cannot_read(place: str, error: LaionAssetsError | Exception) -> str:
    why = str(error).rstrip(".") or type(error).__name__
    if place.startswith("hf://"):
        return (
            f"Cannot read {place}: {why}. hf:// needs the package huggingface_hub, a connection to the hub, and for "
            "private datasets a token (HF_TOKEN). Without a network, download the folder elsewhere and use --from "
            "FOLDER."
        )
    return f"Cannot read {place}: {why}. Check the path and the credentials."
