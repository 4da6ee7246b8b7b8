"""The API of `clip-retrieval back` (clip-retrieval 2.45.0, `clip_back.py`), for its ClipClient and its front end.

Paths, fields and defaults are clip-retrieval's. Four things differ. Rows that may not be shown are left out of every
answer, by their tags and by the safety model if there is one, whatever `use_safety_model` says. Each result also has
`stored_image`, the path of the image on this service. `use_mclip` is refused. Counts and sizes are limited.

ClipClient and the front end ask for a safety model, a violence detector and aesthetic embeddings by default. A
clip-retrieval without these models ignores that silently. Here, the header X-Ignored-Fields names each field that asks
for something that the service does not have; with `search.refuse_missing_models`, it is refused.
"""

import time
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from laion_assets.errors import QueryError
from laion_assets.search.dataset_search import DatasetSearch
from laion_assets.search.index.index_version import IndexVersion
from laion_assets.search.queries.request import (
    Term,
    check_text,
    check_vector,
    decode_image_field,
    parse_integer,
    parse_name,
    shorten,
)
from laion_assets.search.results.duplicates import find_connected
from laion_assets.search.results.find import nearest_shown
from laion_assets.server.api.answers import json_response, read_json
from laion_assets.server.api.results import image_path
from laion_assets.server.api.search import encode_terms
from laion_assets.server.service import Service
from laion_assets.stages.knn_indices.vectors import MODALITIES

COLUMNS = ("url", "image_path", "caption", "NSFW", "uid")
"""The columns that are returned for each result: clip-retrieval's default, and the uid."""
MIN_COSINE = 0.94
"""Cosine from which clip-retrieval takes results for duplicates."""


async def list_indices(request: Request) -> Response:
    """GET or POST /indices-list: the names of the datasets."""
    service: Service = request.app.state.service
    return json_response(list(service.searches))


async def search_knn(request: Request) -> Response:
    """POST /knn-service: the nearest rows of a text, an image or an embedding.

    The answer has `num_result_ids` rows with id and similarity; the first `num_images` of them have their metadata.
    """
    service: Service = request.app.state.service
    started = time.perf_counter()
    body = await read_json(request)
    target = _find_target(service, body)
    term, scale = _parse_term(target, body)
    modality = body.get("modality", "image")
    if modality not in MODALITIES:
        raise QueryError(f"Unknown modality {shorten(modality)}.", "modality", "invalid_index")
    most = target.settings.max_depth
    images = parse_integer(body.get("num_images", 100), "num_images", 0, most)
    ids = parse_integer(body.get("num_result_ids", images), "num_result_ids", 1, most)
    deduplicate = bool(body.get("deduplicate", False))
    headers = _describe_models(target, body)
    with service.admit():
        (vector,) = await encode_terms(service, target, [term])
        found = await service.run(_search, service, target, vector, modality, ids, images, deduplicate, scale)
    service.metrics.observe("full_knn_request_time", time.perf_counter() - started)
    return json_response(found, headers=headers)


async def read_metadata(request: Request) -> Response:
    """POST /metadata: the metadata of ids."""
    service: Service = request.app.state.service
    body = await read_json(request)
    target = _find_target(service, body)
    ids = body.get("ids")
    if not isinstance(ids, list) or len(ids) > target.settings.max_k:
        raise QueryError(f"ids must be a list of at most {target.settings.max_k:,} ids.", "ids", "invalid_ids")
    with service.admit():
        rows = len(target.current.version)
        numbers = [parse_integer(each, "ids", 0, rows - 1) for each in ids]
        found = await service.run(target.with_version, lambda version: _metadata(target, version, numbers))
    return json_response([{"id": row_id, "metadata": found[row_id]} for row_id in numbers if row_id in found])


async def show_metrics(request: Request) -> Response:
    """GET /metrics: Prometheus metrics."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def show_metrics_summary(request: Request) -> Response:
    """GET /metrics-summary: the average time of each step, as text."""
    service: Service = request.app.state.service
    return PlainTextResponse(service.metrics.summary())


def _find_target(service: Service, body: Any) -> DatasetSearch:
    if not isinstance(body, dict):
        raise QueryError("The body must be a JSON object.", "", "invalid_json")
    if body.get("indice_name") is None:
        return next(iter(service.searches.values()))
    return service.search(parse_name(body, "indice_name"))


def _parse_term(target: DatasetSearch, body: dict[str, Any]) -> tuple[Term, float]:
    """Return the query, and the factor of its similarities: clip-retrieval does not normalise an embedding."""
    if body.get("use_mclip"):
        raise QueryError("This service has no multilingual model. Set use_mclip to false.", "use_mclip", "no_mclip")
    if body.get("text"):
        return Term("text", check_text(body["text"], target.settings, "text")), 1.0
    if body.get("image") is not None:
        return Term("image", decode_image_field(body["image"], target.settings, "image")), 1.0
    if body.get("image_url") is not None:
        return Term("image_url", body["image_url"]), 1.0
    if body.get("embedding_input") is not None:
        vector = check_vector(body["embedding_input"], "embedding_input")
        return Term("vector", vector), float(np.linalg.norm(vector))
    raise QueryError("Set one of text, image, image_url and embedding_input.", "text", "empty_text")


def _describe_models(target: DatasetSearch, body: dict[str, Any]) -> dict[str, str]:
    """Return the headers that say which models that a query asks for are used, and which are missing.

    Raises QueryError for a missing safety model or violence detector if `search.refuse_missing_models` is set.
    """
    missing = [name for name in ("use_safety_model", "use_violence_detector") if body.get(name)]
    if target.safety is not None:
        missing = [name for name in missing if name != "use_safety_model"]
    if missing and target.settings.refuse_missing_models:
        raise QueryError(
            f"This service has no model for {' and '.join(missing)}. Set {' and '.join(missing)} to false; rows are "
            "hidden by their NSFW tag.",
            missing[0],
            "no_safety_model",
        )
    if body.get("aesthetic_score") not in (None, "") and body.get("aesthetic_weight") not in (None, "", 0):
        missing.append("aesthetic_score")
    headers = {"X-Ignored-Fields": ", ".join(missing)} if missing else {}
    return headers | ({"X-Safety-Model": f"sha256:{target.safety.sha256}"} if target.safety is not None else {})


def _search(
    service: Service,
    target: DatasetSearch,
    vector: Any,
    modality: str,
    depth: int,
    images: int,
    deduplicate: bool,
    scale: float,
) -> list[dict[str, Any]]:
    def search(version: IndexVersion) -> list[dict[str, Any]]:
        started = time.perf_counter()
        ids, similarities = nearest_shown(version, modality, vector, depth)
        service.metrics.observe("knn_index_time", time.perf_counter() - started)
        if deduplicate and ids:
            started = time.perf_counter()
            kept = find_connected(version.vectors(modality, ids), MIN_COSINE)
            ids, similarities = [ids[each] for each in kept], [similarities[each] for each in kept]
            service.metrics.observe("dedup_time", time.perf_counter() - started)
        started = time.perf_counter()
        metadata = _metadata(target, version, ids[:images])
        service.metrics.observe("metadata_get_time", time.perf_counter() - started)
        return [
            {**metadata.get(row_id, {}), "id": row_id, "similarity": similarity * scale}
            for row_id, similarity in zip(ids, similarities, strict=True)
        ]

    return target.with_version(search)


def _metadata(target: DatasetSearch, version: IndexVersion, ids: list[int]) -> dict[int, dict[str, Any]]:
    """Return the columns of the rows that may be shown, by id."""
    found = {}
    rows = version.metadata.rows(ids)
    for row_id, row, is_shown in zip(ids, rows, version.shown(ids, rows), strict=True):
        if is_shown:
            found[row_id] = {name: row[name] for name in COLUMNS if name in row}
            found[row_id]["stored_image"] = image_path(target.dataset, row_id, row["uid"])
    return found
