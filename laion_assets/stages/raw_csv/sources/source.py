"""The sources of CSV files, chosen by the form of the setting `source`."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from laion_assets.dataset.dataset import SAMPLE_SITE, Dataset
from laion_assets.errors import SettingError
from laion_assets.http.listings.listing import Listed, Listing, list_http
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.dataset_policy import LIST_PREFIX, source_policy
from laion_assets.http.urls.places import is_http, refuse_http_file_system
from laion_assets.stages.raw_csv.settings import CsvSettings
from laion_assets.stages.raw_csv.sources.file_version import compare_version
from laion_assets.stages.raw_csv.sources.folder_source import FolderSource
from laion_assets.stages.raw_csv.sources.url_list import read_url_list
from laion_assets.stages.raw_csv.transfers.disk_budget import DiskBudget
from laion_assets.stages.raw_csv.transfers.partial_files import Origin, Partials
from laion_assets.stages.raw_csv.transfers.transfer import Fetched, Transfer
from laion_assets.store.own_outputs import OwnOutputs


class Source(Protocol):
    """A place that CSV files are fetched from."""

    async def list_files(self) -> Listing:
        """List the files that match the pattern. Raises SourceError."""

    async def fetch(self, listed: Listed, partials: Partials, committed: Origin | None) -> Fetched:
        """Fetch one file into `partials`, unless the committed version is current. Raises SourceError."""

    async def compare(self, listed: Listed, committed: Origin) -> str:
        """Return `unchanged`, `changed` or `deleted` for a committed file. Reads no body. Raises SourceError."""


class WebSource:
    """A tree of directory listings over HTTP, or a list of URLs."""

    def __init__(self, http: AsyncClient, place: str, settings: CsvSettings, count: Callable[[int], None]) -> None:
        self._http, self._place, self._settings, self._count = http, place, settings, count
        self._budget = DiskBudget(settings)

    async def list_files(self) -> Listing:
        pattern, retries = self._settings.pattern, self._settings.retries
        if self._place.startswith(LIST_PREFIX):
            return await read_url_list(self._http, self._place.removeprefix(LIST_PREFIX), pattern, retries)
        return await list_http(self._http, self._place, pattern, retries)

    async def fetch(self, listed: Listed, partials: Partials, committed: Origin | None) -> Fetched:
        return await Transfer(self._http, listed, partials, committed, self._budget, self._count).run()

    async def compare(self, listed: Listed, committed: Origin) -> str:
        return await compare_version(self._http, listed.url, committed)


@contextlib.asynccontextmanager
async def open_source(dataset: Dataset, count: Callable[[int], None]) -> AsyncIterator[Source]:
    """Open the dataset's source. Calls `count` with the number of received bytes. Raises SettingError without one."""
    place, settings = source_url(dataset), dataset.csv
    if is_http(place) or place.startswith(LIST_PREFIX):
        async with AsyncClient(source_policy(dataset)) as http:
            yield WebSource(http, place, settings, count)
    else:
        refuse_http_file_system(place)
        yield FolderSource(place, settings.pattern, settings.retries, OwnOutputs.of(dataset), count)


def source_url(dataset: Dataset) -> str:
    """Return the place of the CSV files: the dataset's source, or the URL that `sample-site:` stands for.

    Raises SettingError if the dataset has no source.
    """
    if not dataset.source:
        raise SettingError(
            f"The dataset {dataset.name} has no source. Set source to the URL of a directory listing of CSV files, to "
            f"a folder, or to list:FILE with URLs, for example LAION_ASSETS_{dataset.name.upper()}_SOURCE=/my/csvs."
        )
    if dataset.source.startswith(SAMPLE_SITE):
        from laion_assets.sample.answers import CRAWL_HOST, LISTING_PATH

        return f"http://{CRAWL_HOST}{dataset.source.removeprefix(SAMPLE_SITE) or LISTING_PATH}"
    return dataset.source
