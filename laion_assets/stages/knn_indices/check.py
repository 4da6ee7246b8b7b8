"""The check of `knn_indices`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield violations of the invariant in the indices, and recalls below `index.min_recall` as it is set now."""
    from laion_assets.stages.knn_indices.handle import KnnIndices
    from laion_assets.stages.knn_indices.recall import find_low_recall
    from laion_assets.stages.knn_indices.vectors import MODALITIES
    from laion_assets.stages.knn_indices.verify import verify_indices

    yield from verify_indices(store, dataset.layout).problems
    details = KnnIndices(store, dataset.layout, (0,)).manifest(0).details
    measured = {modality: details.get(modality, {}).get("recall_at_10", {}) for modality in MODALITIES}
    yield from find_low_recall(measured, dataset.index.min_recall)
