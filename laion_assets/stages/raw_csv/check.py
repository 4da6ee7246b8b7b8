"""The check of `raw_csv`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.stages.raw_csv.handle import RawCsv
from laion_assets.store.manifest import disagreement
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield files that are missing, truncated or altered."""
    manifest = RawCsv.of(dataset).manifest(partition)
    problem = disagreement(store, manifest, hashes=True)
    if problem:
        yield problem
    if len(manifest.files) != manifest.counts.rows_out:
        yield f"the manifest counts {manifest.counts.rows_out} files, but lists {len(manifest.files)}"
