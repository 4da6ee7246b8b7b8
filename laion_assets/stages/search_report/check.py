"""The check of `search_report`."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.store.store import Store


def find_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield violations of the invariant: altered files, queries not answered once, and results that may not be shown.

    Every result is compared with the metadata of the index it came from, unless the indices were rebuilt since.
    """
    from laion_assets.search.search_quality import open_metadata
    from laion_assets.stages.knn_indices.handle import KnnIndices
    from laion_assets.stages.search_report.build import read_figures
    from laion_assets.stages.search_report.handle import SearchReport
    from laion_assets.stages.stage import inputs_digest
    from laion_assets.store.manifest import WHOLE, disagreement

    manifest = SearchReport(store, dataset.layout, (0,)).manifest(partition)
    if problem := disagreement(store, manifest, hashes=True):
        yield problem
        return
    figures = read_figures(store, manifest)
    answered = Counter(answer["query"] for answer in figures["queries"])
    if answered.total() != manifest.counts.rows_out:
        yield f"the report answers {answered.total()} queries, but its manifest lists {manifest.counts.rows_out}"
    for query, times in answered.items():
        if times != 1:
            yield f"the query {query!r} is answered {times} times"
    indices = KnnIndices(store, dataset.layout, (0,)).manifest(0)
    if manifest.inputs != inputs_digest(WHOLE, [indices]):
        return
    with open_metadata(store, indices) as rows:
        for answer in figures["queries"]:
            for result in answer["results"]:
                yield from _find_result_problems(dataset, answer["query"], result, rows.fields(result["row"]))


def _find_result_problems(
    dataset: Dataset, query: str, result: dict[str, Any], stored: dict[str, Any]
) -> Iterator[str]:
    from laion_assets.search.results.safety import SAFE_TAG, may_be_published

    where = f"result {result['uid']} of {query!r}"
    if not may_be_published(stored, dataset.search_report.show_untagged):
        yield f"{where} is tagged {stored.get('NSFW')}, and only images tagged {SAFE_TAG} may be shown"
    for name, expected in (("uid", stored["uid"]), ("caption", stored["caption"] or "")):
        if result[name] != expected:
            yield f"{where} has another {name} than row {result['row']} of the index"
