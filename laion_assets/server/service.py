"""The datasets of a running service, their models, and the threads that search."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any, TypeVar

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LaionAssetsError, QueryError, SettingError
from laion_assets.search.dataset_search import DatasetSearch
from laion_assets.search.queries.encoding import QueryEncoder
from laion_assets.search.settings import SearchSettings
from laion_assets.server.api.answers import ApiError
from laion_assets.server.metrics import Metrics

Result = TypeVar("Result")
OF_SERVICE = (
    "concurrency",
    "queue",
    "client_requests",
    "proxies",
    "max_connections",
    "deadline_s",
    "idle_s",
    "allowed_hosts",
    "cors_origins",
    "token_file",
    "report_file",
    "max_report_bytes",
    "log_queries",
)
"""Settings of the whole service. They must be the same for all its datasets."""
_log = logging.getLogger(__name__)


class Service:
    """The searches of one or more datasets. Opens all indices and starts to load the models.

    Raises IncompleteError, ModelError or IntegrityError if an index cannot be opened, SettingError for datasets whose
    settings of the service differ.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.settings = shared_settings(datasets)
        self.encoders: dict[tuple[str, str, str], QueryEncoder] = {}
        self.searches: dict[str, DatasetSearch] = {}
        for dataset in datasets:
            device, precision = dataset.embeddings.device, dataset.embeddings.precision
            model = (dataset.model, device, precision)
            if model not in self.encoders:
                self.encoders[model] = QueryEncoder(dataset)
            self.searches[dataset.name] = DatasetSearch(dataset, self.encoders[model])
        self.threads = self.settings.concurrency or len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="search", initializer=_use_one_thread)
        self.metrics = Metrics()
        self.active = 0
        """Requests that search or wait for it."""

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a thread."""
        return max(self.active - self.threads, 0)

    def search(self, name: str) -> DatasetSearch:
        """Return the search of a dataset. Raises QueryError if the service does not have it."""
        try:
            return self.searches[name]
        except KeyError:
            raise QueryError(
                f"Unknown dataset {name[:80]!r}. Choose from {', '.join(self.searches)}.", "dataset", "not_found"
            ) from None

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run blocking work in one of the search threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def admit(self) -> "Admission":
        """Return a context for one request that searches. Raises ApiError 429 if too many wait."""
        return Admission(self)

    @property
    def ready(self) -> bool:
        """Whether all models are loaded. Raises ModelError if one cannot be."""
        return all(encoder.ready for encoder in self.encoders.values())

    async def refresh_forever(self) -> None:
        """Prepare the open indices, then look for newly committed ones at the interval `search.refresh_s`."""
        await asyncio.gather(*(self._refresh_dataset(search) for search in self.searches.values()))

    async def _refresh_dataset(self, search: DatasetSearch) -> None:
        changed = True
        while True:
            try:
                if changed:
                    await asyncio.to_thread(search.prepare)
                await asyncio.sleep(search.settings.refresh_s)
                changed = await asyncio.to_thread(search.current.refresh)
            except (LaionAssetsError, OSError) as error:
                _log.warning("%s: %s", search.dataset.name, error)
                await asyncio.sleep(search.settings.refresh_s)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for encoder in self.encoders.values():
            encoder.close()


class Admission:
    """Counts one request while it searches or waits."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __enter__(self) -> None:
        service = self._service
        if service.active >= service.threads + service.settings.queue:
            raise ApiError(
                429,
                "too_many_requests",
                f"{service.active:,} searches are running or waiting. Try again in a moment.",
                retry_after_s=1,
            )
        service.active += 1

    def __exit__(self, *_: object) -> None:
        self._service.active -= 1


def shared_settings(datasets: Sequence[Dataset]) -> SearchSettings:
    """Return the settings of the service: those of the first dataset. Raises SettingError if another differs."""
    names: Mapping[str, int] = {dataset.name: 0 for dataset in datasets}
    if not datasets or len(names) < len(datasets):
        raise SettingError("Serve at least one dataset, and each only once: --dataset NAME.")
    first = datasets[0]
    for dataset in datasets[1:]:
        for field in fields(SearchSettings):
            if field.name in OF_SERVICE and getattr(dataset.search, field.name) != getattr(first.search, field.name):
                raise SettingError(
                    f"search.{field.name} differs between {first.name} and {dataset.name}, but it is a setting of the "
                    "whole service. Set it in the section [search], without a dataset."
                )
    return first.search


def _use_one_thread() -> None:
    """Let a search use its own thread only: faiss would start one thread per core for each of them."""
    import faiss

    faiss.omp_set_num_threads(1)
