"""The handle of `raw_csv`."""

from dataclasses import dataclass

from laion_assets.stages.handle import Handle

RAW_CSV = "raw_csv"


@dataclass(frozen=True)
class RawCsv(Handle):
    """The downloaded crawl CSVs: `raw_csv/...`, byte for byte as at their source."""

    asset = RAW_CSV

    def files(self) -> list[str]:
        """Paths, relative to the store, of the CSV files, sorted."""
        return sorted(entry.path for entry in self.manifest(0).files)
