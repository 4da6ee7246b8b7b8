"""The sources of `raw_csv`, by the form of the dataset's `source`."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from laion_assets.datasets import SAMPLE_SITE, Dataset
from laion_assets.errors import SettingError, SourceError
from laion_assets.http.async_client import AsyncClient
from laion_assets.http.places import is_http, refuse_http_file_system
from laion_assets.http.source_policy import SourcePolicy
from laion_assets.http.target import parse_target
from laion_assets.metadata.background_loop import run_beside
from laion_assets.metadata.disk_budget import DiskBudget
from laion_assets.metadata.folder_source import FolderSource
from laion_assets.metadata.listing import Listed, Listing, list_http
from laion_assets.metadata.partial import Origin, Partials
from laion_assets.metadata.settings import MetadataSettings
from laion_assets.metadata.transfer import Fetched, Transfer
from laion_assets.metadata.url_list import PREFIX, read_url_list
from laion_assets.reasons import Rejection


class Source(Protocol):
    """Where files come from."""

    async def list_files(self) -> Listing:
        """What there is. Raises SourceError."""

    async def fetch(self, listed: Listed, partials: Partials, published: Origin | None) -> Fetched:
        """One file into `partials`, if it is not the published one. Raises SourceError."""


class WebSource:
    """A tree of directory pages, or a list of URLs."""

    def __init__(self, http: AsyncClient, place: str, settings: MetadataSettings, count: Callable[[int], None]) -> None:
        self._http, self._place, self._settings, self._count = http, place, settings, count
        self._budget = DiskBudget(settings)

    async def list_files(self) -> Listing:
        pattern, retries = self._settings.pattern, self._settings.retries
        if self._place.startswith(PREFIX):
            return await read_url_list(self._http, self._place.removeprefix(PREFIX), pattern, retries)
        return await list_http(self._http, self._place, pattern, retries)

    async def fetch(self, listed: Listed, partials: Partials, published: Origin | None) -> Fetched:
        return await Transfer(self._http, listed, partials, published, self._budget, self._count).run()


@contextlib.asynccontextmanager
async def open_source(dataset: Dataset, count: Callable[[int], None]) -> AsyncIterator[Source]:
    """The dataset's source; `count` is told the bytes as they come. Raises SettingError without one."""
    place, settings = source_url(dataset), dataset.metadata
    if is_http(place) or place.startswith(PREFIX):
        async with AsyncClient(source_policy(dataset)) as http:
            yield WebSource(http, place, settings, count)
    else:
        refuse_http_file_system(place)
        yield FolderSource(place, settings.pattern, settings.retries, count)


def list_tree(dataset: Dataset, url: str, pattern: str) -> list[Listed]:
    """The files of a tree of directory pages that match, for readers that fetch them in their own way."""
    settings = dataset.metadata

    async def read() -> Listing:
        async with AsyncClient(source_policy(dataset)) as http:
            return await list_http(http, url, pattern, settings.retries)

    return run_beside(read, 1).files


def source_policy(dataset: Dataset) -> SourcePolicy:
    """What fetching the dataset's sources may do. The hosts of `source` and `published` are the operator's.

    Raises SourceError naming the setting whose URL is not one.
    """
    settings = dataset.metadata
    places = {"source": (dataset.source.removeprefix(PREFIX),), "published": dataset.published}
    named = [(name, place) for name, listed in places.items() for place in listed]
    named = [(name, place) for name, place in named if is_http(place)]
    for name, place in named:
        check_url(place, name)
    return SourcePolicy(
        resolve=dict(dataset.resolve),
        operator_urls=tuple(place for _, place in named),
        blocked_networks=dataset.blocked_networks,
        allowed_ports=settings.allowed_ports,
        timeout_s=settings.stall_timeout_s,
        min_bytes_per_s=settings.min_bytes_per_s,
        per_host=settings.connections_per_host,
        retries=settings.retries,
    )


def check_url(url: str, name: str) -> None:
    """Raises SourceError if a URL of the settings is not one, naming the setting."""
    try:
        parse_target(url)
    except Rejection as rejection:
        raise SourceError(
            f"{url} is not an http or https URL with a host ({rejection.detail}): correct the setting {name}."
        ) from rejection


def source_url(dataset: Dataset) -> str:
    """Where the CSVs are: the dataset's source, the embedded site's listing for `sample-site:`. Raises SettingError."""
    if not dataset.source:
        raise SettingError(
            f"the dataset {dataset.name} has no source: set source to the URL of a directory listing of CSVs, to a "
            f"folder, or to list:FILE of URLs, for example LAION_ASSETS_{dataset.name.upper()}_SOURCE=/path/to/csvs."
        )
    if dataset.source.startswith(SAMPLE_SITE):
        from laion_assets.sample.answers import CRAWL_HOST, LISTING_PATH

        return f"http://{CRAWL_HOST}{dataset.source.removeprefix(SAMPLE_SITE) or LISTING_PATH}"
    return dataset.source
