"""The search API: datasets, searches and single rows."""

import asyncio
import logging
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from laion_assets.search.dataset_search import DatasetSearch, combine
from laion_assets.search.queries.request import parse_name, parse_request
from laion_assets.server.api.answers import json_response, read_json
from laion_assets.server.api.provenance import describe_row
from laion_assets.server.api.results import describe_result
from laion_assets.server.service import Service

_log = logging.getLogger(__name__)
_ENCODE_STEPS = {"text": "text_clip_inference_time", "image": "image_clip_inference_time"}


async def list_datasets(request: Request) -> Response:
    """GET /api/datasets: the datasets of this service, with what the page needs to offer."""
    service: Service = request.app.state.service
    return json_response({"datasets": [_describe_dataset(search) for search in service.searches.values()]})


async def search(request: Request) -> Response:
    """POST /api/search: a page of results of a query."""
    service: Service = request.app.state.service
    body = await read_json(request)
    target = service.search(parse_name(body) if isinstance(body, dict) else "")
    query = parse_request(body, target.settings)
    target.require_safety_model(query.safety_model)
    with service.admit():
        started = time.perf_counter()
        vectors = await encode_terms(service, target, query.terms)
        encoded = time.perf_counter()
        found = await service.run(target.find, combine(query.terms, vectors), query)
    observe = service.metrics.observe
    observe("knn_index_time", found.index_ms / 1_000)
    observe("metadata_get_time", found.metadata_ms / 1_000)
    observe("full_knn_request_time", time.perf_counter() - started)
    next_offset = query.offset + query.k if found.more else None
    return json_response(
        {
            "results": [describe_result(target.dataset, hit) for hit in found.hits],
            "next_offset": next_offset,
            "hidden": found.hidden,
            "filtered": found.filtered,
            "collapsed": found.collapsed,
            "took_ms": {
                "encode": round((encoded - started) * 1_000, 2),
                "index": round(found.index_ms, 2),
                "metadata": round(found.metadata_ms, 2),
            },
            "index_version": found.index_version,
            "safety_model": describe_safety(target),
        }
    )


def describe_safety(target: DatasetSearch) -> dict[str, Any] | None:
    """Return name, digest and threshold of a dataset's safety model, None without one."""
    return None if target.safety is None else target.safety.describe()


async def encode_terms(service: Service, target: DatasetSearch, terms: Any) -> list[Any]:
    """Return the vectors of the terms of a query, encoded at the same time."""
    started = time.perf_counter()
    if service.settings.log_queries:
        texts = [term.value for term in terms if term.kind == "text"]
        _log.info("query in %s: %s", target.dataset.name, " + ".join(texts))
    futures = [target.encode(term, f"terms[{number}]") for number, term in enumerate(terms)]
    vectors = await asyncio.gather(*map(asyncio.wrap_future, futures))
    for kind, step in _ENCODE_STEPS.items():
        if any(term.kind == kind for term in terms):
            service.metrics.observe(step, time.perf_counter() - started)
    return list(vectors)


async def show_result(request: Request) -> Response:
    """GET /api/results/NAME/ID: everything about one row."""
    service: Service = request.app.state.service
    target = service.search(request.path_params["dataset"])
    row_id = int(request.path_params["id"])
    with service.admit():
        return json_response(await service.run(describe_row, target, row_id))


def _describe_dataset(target: DatasetSearch) -> dict[str, Any]:
    dataset, settings = target.dataset, target.settings
    rows = len(target.current.version)
    tags = target.current.version.tags
    return {
        "name": dataset.name,
        "description": dataset.description,
        "images": rows,
        "captions": rows,
        "model": dataset.model,
        "indices": ["image", "text"],
        "nsfw_tags": sorted(tag for tag in tags.rows if tag) if tags else [],
        "shown_tags": sorted({"UNLIKELY", *settings.show}),
        "hidden_rows": tags.hidden_rows if tags else None,
        "safety_model": describe_safety(target),
        "example_queries": list(settings.example_queries),
        "dagster_url": settings.dagster_url or None,
        "index_version": target.current.version.version,
        "limits": {
            "max_k": settings.max_k,
            "max_depth": settings.max_depth,
            "max_export_rows": settings.max_export_rows,
            "max_terms": settings.max_terms,
            "max_text_chars": settings.max_text_chars,
            "max_image_bytes": settings.max_image_bytes,
            "image_by_url": settings.image_by_url,
        },
    }
