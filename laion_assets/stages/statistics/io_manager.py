"""The IO managers of the statistics."""

import dagster as dg

from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.metadata_values import report, table, text
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS
from laion_assets.store.manifest import Manifest

_TOP = 20


class _StatisticsIOManager(PartitionIOManager):
    """Returns the figures; shows the report: its tables and plots, and the most frequent domains."""

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The tables and plots of the report, the path of its file, and a table of domains."""
        from laion_assets.stages.statistics.build import REPORT, read_charts, read_summary
        from laion_assets.stages.statistics.report import summary_tables

        summary = read_summary(self.store, manifest)
        charts = read_charts(self.store, self.asset, summary)
        counted = summary["partitions"]
        plots = [(title, "image/svg+xml", svg.encode()) for title, svg in charts]
        metadata: Metadata = {
            "report": report(summary_tables(self.asset, summary), plots),
            "report_file": dg.MetadataValue.path(self.store.address(REPORT)),
            "partitions_counted": text(f"{counted['counted']:,} of {counted['declared']:,}"),
            "domains": table(("domain", "rows"), [row[:2] for row in summary["domains"]["most"][:_TOP]]),
            "distinct_domains": dg.MetadataValue.int(summary["domains"]["distinct"]),
        }
        if summary.get("success_rate") is not None:
            metadata["success_rate"] = dg.MetadataValue.float(summary["success_rate"])
        return metadata


class DatasetStatisticsIOManager(_StatisticsIOManager):
    """Returns `DatasetStatistics`."""

    asset = DATASET_STATISTICS


class ImageStatisticsIOManager(_StatisticsIOManager):
    """Returns `ImageStatistics`."""

    asset = IMAGE_STATISTICS
