"""The IO manager of the indices."""

from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.metadata_values import json_value, text
from laion_assets.plain_text import one_line
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.manifest import Manifest


class KnnIndicesIOManager(PartitionIOManager):
    """Returns `KnnIndices`; shows the measurements of each index."""

    asset = KNN_INDICES

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The measurements of each index, and the model and embeddings of both."""
        return {
            one_line(name): json_value(value) if isinstance(value, dict | list) else text(value)
            for name, value in manifest.details.items()
            if name != "inputs"  # digests of every embedding file, for programs
        }
