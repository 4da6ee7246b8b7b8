"""The check of the toy stage."""

import json
from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.store.store import Store
from laion_assets_tests.stages.toy_stage.stage import CaptionLanguages


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield a sentence where the file counts another number of captions than its manifest."""
    handle = CaptionLanguages.of(dataset)
    manifest = handle.manifest(partition)
    (path,) = handle.paths(dataset.layout, manifest.key)
    counted = sum(json.loads(store.read_bytes(path)).values())
    if counted != manifest.counts.rows_out:
        yield f"{path} counts {counted} captions and its manifest {manifest.counts.rows_out}"
