"""Limits on the bytes that a fetch of `raw_csv` writes to the disk, per file and per run."""

from laion_assets.errors import SourceError
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.raw_csv.settings import CsvSettings


class DiskBudget:
    """Counter of the decoded bytes that a run writes, with a limit per file and one per run."""

    def __init__(self, settings: CsvSettings) -> None:
        self._max_file_bytes, self._max_run_bytes = settings.max_file_bytes, settings.max_run_bytes
        self._written = 0

    def check_length(self, length: int) -> None:
        """Check an announced length in bytes (-1: unknown) before the download. Raises Rejection `too_large`."""
        if length > self._max_file_bytes:
            raise self._too_large(f"{length:,} bytes")

    def take(self, size: int, more: int) -> None:
        """Count `more` bytes, which are about to be appended to a file of `size` bytes.

        Raises Rejection `too_large` if the file gets too large, SourceError if the run has written too much.
        """
        if size + more > self._max_file_bytes:
            raise self._too_large("the body")
        self._written += more
        if self._written > self._max_run_bytes:
            raise SourceError(
                f"This run downloaded more than csv.max_run_bytes ({self._max_run_bytes:,} bytes). Increase the "
                "setting if the source is that large. The downloads are kept for the next run."
            )

    def _too_large(self, what: str) -> Rejection:
        return Rejection(Reason.TOO_LARGE, f"{what}: more than csv.max_file_bytes ({self._max_file_bytes:,})")
