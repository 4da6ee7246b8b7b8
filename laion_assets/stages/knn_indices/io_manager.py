"""The IO manager of the indices."""

import tarfile

import dagster as dg

from laion_assets.errors import LaionAssetsError
from laion_assets.orchestration.partition_io import Metadata, PartitionIOManager
from laion_assets.orchestration.ui.metadata_values import images, json_value, table, text
from laion_assets.plain_text import one_line
from laion_assets.stages.knn_indices.details import INPUTS
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.manifest import Manifest

_MEASURES = ("ntotal", "index_key", "query_ms", "build_seconds")


_NO_EXAMPLE = (
    "no example: no image that is tagged UNLIKELY has a caption. If no image has an NSFW tag, "
    "search_report.show_untagged = true shows them here."
)


class KnnIndicesIOManager(PartitionIOManager):
    """Returns `KnnIndices`; shows an example query and the measurements of each index."""

    asset = KNN_INDICES

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """The images nearest to an example caption, the measurements of each index, and the model of both."""
        shown = {one_line(name): value for name, value in manifest.details.items() if name != INPUTS}
        raw = {name: json_value(value) for name, value in shown.items() if isinstance(value, dict | list)}
        plain = {name: text(value) for name, value in shown.items() if name not in raw}
        return {**self._example(), **_measurements(manifest), **plain, **raw}

    def _example(self) -> Metadata:
        """A contact sheet and the captions of a search. What hinders it is shown, and does not fail the run."""
        from laion_assets.search.example_query import example_query

        try:
            example = example_query(self.dataset, self.store)
        except (LaionAssetsError, OSError, ValueError, RuntimeError, tarfile.TarError) as error:
            return {"example_query": text(f"no example: {error}")}
        if example is None:
            return {"example_query": text(_NO_EXAMPLE)}
        rows = [(rank, f"{similarity:.3f}", caption) for rank, (similarity, caption) in enumerate(example.results, 1)]
        return {
            "example_query": text(example.caption),
            "example_images": images([("nearest images", "image/jpeg", example.sheet)]),
            "example_results": table(("rank", "similarity", "caption"), rows),
        }


def _measurements(manifest: Manifest) -> dict[str, dg.MetadataValue]:
    """One row for each index: vectors, type, recall, milliseconds per query."""
    rows = []
    for modality, measured in manifest.details.items():
        if isinstance(measured, dict) and isinstance(recall := measured.get("recall_at_10"), dict):
            shown = ", ".join(f"{value} by {name}" for name, value in recall.items())
            rows.append((modality, *(measured.get(name) for name in _MEASURES), shown))
    return {"indices": table(("index", *_MEASURES, "recall@10"), rows)} if rows else {}
