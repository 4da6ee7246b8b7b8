"""Build the search report: answer the queries, measure, write the page, the figures and the contact sheet.

search_report/report.html          one page with images, without scripts and requests
search_report/report.json          figures, and the results of each query
search_report/contact_sheet.png    the results of every query in one image
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.search.contact_sheet import stacked_contact_sheet
from laion_assets.search.query import Searcher
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.search.search_quality import measure_quality, read_stored_image
from laion_assets.stages.knn_indices.handle import KnnIndices
from laion_assets.stages.search_report.answers import Answer, answer_query, draw_thumbnail
from laion_assets.stages.search_report.handle import CONTACT_SHEET, FIGURES, PAGE, SEARCH_REPORT
from laion_assets.stages.search_report.page import report_page
from laion_assets.stages.search_report.stage import STAGE
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import require_complete, state_before_run
from laion_assets.store.build_result import BuildResult
from laion_assets.store.manifest import WHOLE, Counts, Manifest, read_committed_file
from laion_assets.store.store import Store
from laion_assets.store.stored_json import parse_object
from laion_assets.store.transaction import open_transaction

if TYPE_CHECKING:
    from laion_assets.models.clip_model import ClipModel

MAX_FIGURES_BYTES = 64_000_000


def build_report(
    dataset: Dataset, store: Store, load_model: "Callable[[], ClipModel]", log: Callable[[str], None]
) -> BuildResult:
    """Build and commit the report on the committed indices. Does nothing if it is complete, intact and up to date.

    Raises IncompleteError if the indices or the embeddings are not committed, ModelError if the indices were built with
    another model than the dataset's, IntegrityError if embeddings or shards were rebuilt after the indices.
    """
    indices = KnnIndices(store, dataset.layout, (0,))
    require_complete(dataset, indices)
    settings, inputs = STAGE.settings_digest(dataset), inputs_digest(WHOLE, [indices.manifest(0)])
    state = state_before_run(
        store, STAGE, SEARCH_REPORT, WHOLE, settings, inputs, rebuild_before=dataset.rebuild_before
    )
    current = state.manifest
    if current is not None and state.is_complete:
        log(f"{SEARCH_REPORT}: already complete, {current.counts.rows_out:,} queries")
        return BuildResult(current, was_built=False)
    options = dataset.search_report
    with (
        Searcher(dataset, store, load_model(), SafetyModel.of(dataset)) as searcher,
        open_transaction(store, SEARCH_REPORT) as transaction,
    ):
        answers = [answer_query(searcher, query, options.results) for query in options.queries]
        quality = measure_quality(
            dataset, searcher, options.queries, options.recall_queries, options.near_duplicates
        ).to_json()
        figures = {**_describe(dataset, searcher.manifest), **quality, "queries": [each.to_json() for each in answers]}
        images = {result.row: read_stored_image(searcher, result) for each in answers for result in each.results}
        thumbnails = {row: draw_thumbnail(content) for row, content in images.items()}
        page = report_page(dataset.description, figures, thumbnails, show_untagged=options.show_untagged)
        transaction.stage(PAGE, repeatable=False).write_text(page, encoding="utf-8")
        text = json.dumps(figures, indent=1, ensure_ascii=False)
        transaction.stage(FIGURES, repeatable=False).write_text(text, encoding="utf-8")
        transaction.stage(CONTACT_SHEET, repeatable=False).write_bytes(_draw_sheet(answers, images, options.results))
        manifest = transaction.commit(
            Counts(len(options.queries), len(answers)), settings=settings, inputs=inputs, details=_summarize(figures)
        )
    log(f"report: {store.address(PAGE)}")
    return BuildResult(manifest, was_built=True)


def read_figures(store: Store, manifest: Manifest) -> dict[str, Any]:
    """Read the figures of a committed report. Raises IntegrityError if they differ from its manifest."""
    entry = manifest.entry(FIGURES)
    try:
        return parse_object(read_committed_file(store, entry, MAX_FIGURES_BYTES))
    except ValueError as error:
        raise IntegrityError(
            f"{store.address(entry.path)} is not a JSON object ({error}). Materialize {SEARCH_REPORT} again."
        ) from error


def _describe(dataset: Dataset, indices: Manifest) -> dict[str, Any]:
    """Return what the report is about: dataset, model and indices."""
    image = indices.details.get("image", {})
    return {
        "dataset": dataset.name,
        "model": indices.details["model"],
        "vectors": indices.counts.rows_out,
        "width": indices.details["width"],
        "index": {name: image.get(name) for name in ("index_key", "index_param")},
        "indexed_at": indices.committed_at,
    }


def _summarize(figures: dict[str, Any]) -> dict[str, Any]:
    """Return the figures for the manifest: recall of the image index by kind of query, p50 of a whole query."""
    recall = {each["kind"]: each["recall_at_10"] for each in figures["recall"] if each["index"] == "image"}
    return {"recall_at_10": recall, "query_p50_ms": figures["latency"][-1]["p50_ms"]}


def _draw_sheet(answers: list[Answer], images: dict[int, bytes], columns: int) -> bytes:
    sections = [
        (
            f"“{each.query}”",
            [(images[result.row], [f"{result.similarity:.3f}", result.caption]) for result in each.results],
        )
        for each in answers
    ]
    return stacked_contact_sheet(sections, columns)
