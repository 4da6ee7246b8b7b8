"""The IO manager of the fetched crawl CSVs."""

from laion_assets.handles import RAW_CSV
from laion_assets.io_managers.partition_io import PartitionIOManager


class RawCsvIOManager(PartitionIOManager):
    """Hands over `RawCsv`."""

    asset = RAW_CSV
