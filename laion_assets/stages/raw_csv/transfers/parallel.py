"""Parallel downloads of all files of a source, with limits per host and in total, and progress lines."""

import asyncio
import contextlib
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from laion_assets.errors import SourceError
from laion_assets.http.listings.listing import Listed
from laion_assets.progress import duration
from laion_assets.stages.raw_csv.settings import CsvSettings
from laion_assets.stages.raw_csv.sources.source import Source
from laion_assets.stages.raw_csv.transfers.partial_files import Origin, Partials
from laion_assets.stages.raw_csv.transfers.transfer import Fetched

MAX_FAILURES = 10
"""A fetch stops after so many failed files. The error lists them."""
PROGRESS_EVERY_S = 5.0


@dataclass
class FetchProgress:
    """Progress of a fetch in files and bytes.

    The remaining time is estimated from bytes if all sizes are known in advance, otherwise from files. `skipped_bytes`
    are bytes that did not have to be downloaded again.
    """

    files: int = 0
    bytes_to_come: int | None = None
    done: int = 0
    received: int = 0
    skipped_bytes: int = 0
    _started: float = field(default_factory=time.monotonic)

    def start(self, files: int, bytes_to_come: int | None) -> None:
        """Set the totals and start the clock."""
        self.files, self.bytes_to_come, self._started = files, bytes_to_come, time.monotonic()

    def count(self, received: int) -> None:
        """Count received bytes."""
        self.received += received

    def add(self, listed: Listed, fetched: Fetched) -> None:
        """Count a finished file, and the bytes of it that were not downloaded in this run."""
        self.done += 1
        self.skipped_bytes += max(listed.size - fetched.received, 0)

    def line(self) -> str:
        """Format the current progress for the log."""
        elapsed = max(time.monotonic() - self._started, 1e-6)
        percent = 100 * self.done / self.files if self.files else 100.0
        parts = [f"{self.done:,}/{self.files:,} files ({percent:.0f} %)"]
        megabytes = f"{self.received / 1e6:,.1f}"
        parts.append(f"{megabytes} MB" if self.bytes_to_come is None else f"{megabytes} of {self._whole:,.1f} MB")
        parts.append(f"{self.done / elapsed:,.0f} files/s, {self.received / 1e6 / elapsed:,.1f} MB/s")
        share = self._share()
        if self.done >= self.files:
            parts.append(f"took {duration(elapsed)}")
        elif share:
            parts.append(f"{duration(elapsed * (1 - share) / share)} left")
        return ", ".join(parts)

    @property
    def _whole(self) -> float:
        return max((self.bytes_to_come or 0) - self.skipped_bytes, self.received) / 1e6

    def _share(self) -> float:
        if self.bytes_to_come:
            return min((self.received + self.skipped_bytes) / self.bytes_to_come, 1.0)
        return self.done / self.files if self.files else 1.0


async def fetch_all(
    source: Source,
    files: Sequence[Listed],
    partials: Partials,
    known: dict[str, Origin],
    settings: CsvSettings,
    progress: FetchProgress,
    log: Callable[[str], None],
) -> dict[str, Fetched]:
    """Fetch files in parallel and return the result of each, by path.

    Runs at most `csv.downloads` downloads, and at most `csv.connections_per_host` from one host, so that a slow host
    does not block others. Raises SourceError that lists the files that failed.
    """
    queues: dict[str, deque[Listed]] = defaultdict(deque)
    for listed in files:
        queues[listed.url.partition("://")[2].partition("/")[0]].append(listed)
    found: dict[str, Fetched] = {}
    failures: list[str] = []
    places = asyncio.Semaphore(settings.downloads)

    async def work(queue: deque[Listed]) -> None:
        while queue and len(failures) < MAX_FAILURES:
            async with places:
                if not queue:
                    return
                listed = queue.popleft()
                try:
                    fetched = await source.fetch(listed, partials, known.get(listed.path))
                except SourceError as error:
                    failures.append(str(error))
                    continue
            found[listed.path] = fetched
            progress.add(listed, fetched)

    async with _log_progress(progress, log):
        async with asyncio.TaskGroup() as tasks:
            for queue in queues.values():
                for _ in range(min(len(queue), settings.connections_per_host, settings.downloads)):
                    tasks.create_task(work(queue))
    if failures:
        raise SourceError(
            f"Failed to fetch {len(failures)} files. Nothing was committed; {len(found):,} fetched files are kept for "
            "the next run:\n" + "\n".join(sorted(failures))
        )
    return found


@contextlib.asynccontextmanager
async def _log_progress(progress: FetchProgress, log: Callable[[str], None]) -> AsyncIterator[None]:
    """Log the progress every PROGRESS_EVERY_S seconds, and at the end."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            log(progress.line())

    task = asyncio.create_task(repeat())
    try:
        yield
        log(progress.line())
    finally:
        task.cancel()
