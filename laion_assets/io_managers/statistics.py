"""The IO managers of the statistics."""

import base64
import json
from typing import Any

import dagster as dg

from laion_assets.commit.manifest import Manifest
from laion_assets.handles import DATASET_STATISTICS, IMAGE_STATISTICS, Statistics
from laion_assets.io_managers.partition_io import Metadata, PartitionIOManager

_TOP = 20


class _StatisticsIOManager(PartitionIOManager):
    """Hands over the figures; shows the plots and the first domains."""

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The report's place, every plot, and tables of what has names."""
        import pyarrow.parquet as pq

        from laion_assets.statistics.build import REPORT

        summary = json.loads(self.store.read_bytes(Statistics.summary_path(self.asset)))
        with self.store.open(Statistics.counts_path(self.asset)) as file:
            counts = pq.read_table(file)
        plots = [
            f"**{title}**\n\n![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"
            for title, svg in self.charts(summary, counts)
        ]
        counted = summary["partitions"]
        return {
            "report": dg.MetadataValue.path(self.store.address(REPORT)),
            "partitions_counted": dg.MetadataValue.text(f"{counted['counted']:,} of {counted['declared']:,}"),
            "distinct_domains": dg.MetadataValue.int(summary["domains"]["distinct"]),
            "plots": dg.MetadataValue.md("\n\n".join(plots)),
            "domains": dg.MetadataValue.md(
                "| domain | rows |\n|---|---:|\n"
                + "\n".join(f"| `{row[0]}` | {row[1]:,} |" for row in summary["domains"]["most"][:_TOP])
            ),
        }

    def charts(self, summary: dict[str, Any], counts: Any) -> list[tuple[str, str]]:
        """Title and SVG of each plot."""
        raise NotImplementedError


class DatasetStatisticsIOManager(_StatisticsIOManager):
    """Hands over `DatasetStatistics`."""

    asset = DATASET_STATISTICS

    def charts(self, summary: dict[str, Any], counts: Any) -> list[tuple[str, str]]:
        from laion_assets.statistics.charts import dataset_charts

        return dataset_charts(summary, counts)


class ImageStatisticsIOManager(_StatisticsIOManager):
    """Hands over `ImageStatistics`."""

    asset = IMAGE_STATISTICS

    def charts(self, summary: dict[str, Any], counts: Any) -> list[tuple[str, str]]:
        from laion_assets.statistics.charts import image_charts

        return image_charts(summary, counts)
