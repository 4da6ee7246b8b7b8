"""The IO manager of the indices."""

import dagster as dg

from laion_assets.commit.manifest import Manifest
from laion_assets.handles import KNN_INDICES
from laion_assets.io_managers.partition_io import Metadata, PartitionIOManager


class KnnIndicesIOManager(PartitionIOManager):
    """Hands over `KnnIndices`; shows what was measured of each index."""

    asset = KNN_INDICES

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The measured facts of each index, and what both were made of."""
        return {
            name: dg.MetadataValue.json(value) if isinstance(value, dict | list) else dg.MetadataValue.text(str(value))
            for name, value in manifest.details.items()
            if name != "inputs"  # Digests of every embedding file: for programs.
        }
