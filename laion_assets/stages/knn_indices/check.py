"""The check of `knn_indices`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """What the indices break of the law."""
    from laion_assets.stages.knn_indices.verify import verify_indices

    yield from verify_indices(store, dataset.layout).problems
