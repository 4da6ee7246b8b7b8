"""The IO manager of the indices."""

from laion_assets.commit.manifest import Manifest
from laion_assets.handles import KNN_INDICES
from laion_assets.io_managers.metadata_values import json_value, text
from laion_assets.io_managers.partition_io import Metadata, PartitionIOManager
from laion_assets.plain_text import one_line


class KnnIndicesIOManager(PartitionIOManager):
    """Hands over `KnnIndices`; shows what was measured of each index."""

    asset = KNN_INDICES

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The measured facts of each index, and what both were made of."""
        return {
            one_line(name): json_value(value) if isinstance(value, dict | list) else text(value)
            for name, value in manifest.details.items()
            if name != "inputs"  # Digests of every embedding file: for programs.
        }
