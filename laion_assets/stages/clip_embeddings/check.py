"""The check of `clip_embeddings`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """What an embedding file breaks of the law; some of its rows are encoded again and compared."""
    from laion_assets.stages.clip_embeddings.verify import verify_embedding_file

    yield from verify_embedding_file(store, dataset.layout, partition, load_model()).problems
