"""How much a fetch of `raw_csv` may write to the disk: per file and per run, whatever a server sends."""

from laion_assets.errors import SourceError
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.raw_csv.settings import CsvSettings


class DiskBudget:
    """Counts decoded bytes as they are written, of all files of a run together."""

    def __init__(self, settings: CsvSettings) -> None:
        self._max_file_bytes, self._max_run_bytes = settings.max_file_bytes, settings.max_run_bytes
        self._written = 0

    def check_length(self, length: int) -> None:
        """Refuse an announced length (-1: unknown) before anything of it is written. Raises Rejection `too_large`."""
        if length > self._max_file_bytes:
            raise self._too_large(f"{length:,} bytes")

    def take(self, size: int, more: int) -> None:
        """Allow `more` bytes to a file that has `size`.

        Raises Rejection `too_large` (this file), SourceError (the run's budget is used up).
        """
        if size + more > self._max_file_bytes:
            raise self._too_large("the body")
        self._written += more
        if self._written > self._max_run_bytes:
            raise SourceError(
                f"the source brought more than csv.max_run_bytes ({self._max_run_bytes:,} bytes) in this run. "
                "Raise the setting if the source is that large; what came is kept for the next run."
            )

    def _too_large(self, what: str) -> Rejection:
        return Rejection(Reason.TOO_LARGE, f"{what}: more than csv.max_file_bytes ({self._max_file_bytes:,})")
