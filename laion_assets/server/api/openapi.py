"""The description of the API: /openapi.json (OpenAPI 3.1), and /docs, a page without scripts or other hosts."""

import json
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from laion_assets import __version__
from laion_assets.export.request import FORMATS
from laion_assets.search.results.filters import Filters
from laion_assets.server.api.answers import json_response
from laion_assets.stages.knn_indices.vectors import MODALITIES


async def show_openapi(request: Request) -> Response:
    """GET /openapi.json."""
    return json_response(describe_api())


async def show_docs(request: Request) -> Response:
    """GET /docs."""
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_PAGE)
    template.globals["pretty"] = lambda value: json.dumps(value, indent=2)
    return HTMLResponse(template.render(api=describe_api()))


def describe_api() -> dict[str, Any]:
    """Return the OpenAPI description of all paths."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "laion-assets search",
            "version": __version__,
            "description": "Search in image-text datasets by text, image, result, or a combination of them.",
        },
        "paths": {path: {method: _operation(method, path, *rest)} for (method, path), rest in _OPERATIONS.items()},
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(method: str, path: str, summary: str, body: str, answer: str) -> dict[str, Any]:
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in path.replace(".", "/").split("/")
        if part.startswith("{")
    ]
    kind = "application/json" if answer.startswith("#") else answer
    schema = {"$ref": answer} if answer.startswith("#") else {"type": "string"}
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "202" if path == "/api/report" else "200": {
                "description": "The answer.",
                "content": {kind: {"schema": schema}},
            },
            "default": {
                "description": "An error. 429 and 503 have Retry-After.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"$ref": body}}}}
    return operation


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_TEXT = {"type": "string"}
_INTEGER = {"type": "integer"}
_NUMBER = {"type": "number"}
_TERM = {
    **_object(
        [],
        weight={**_NUMBER, "default": 1.0, "description": "A negative weight subtracts."},
        text=_TEXT,
        image={**_TEXT, "description": "An image file in base64."},
        id={**_INTEGER, "description": "The id of a result: more like this."},
        image_url={**_TEXT, "description": "Only if search.image_by_url is true."},
        vector={"type": "array", "items": _NUMBER, "description": "A vector of the dataset's model."},
    ),
    "description": "Exactly one of text, image, id, image_url and vector.",
}
_FILTERS = _object(
    [],
    **{
        name: {"type": "array", "items": _TEXT} if name == "nsfw" else _TEXT if kind is str else _NUMBER
        for name, kind in Filters.__annotations__.items()
    },
)
_SAFETY_MODEL = {
    "type": "boolean",
    "default": False,
    "description": "Refuse the request (400) if the service has no safety model. One that it has is always used.",
}
_RESULT = _object(
    ["id", "uid", "similarity", "caption", "url", "image"],
    id=_INTEGER,
    uid=_TEXT,
    similarity=_NUMBER,
    caption=_TEXT,
    url=_TEXT,
    domain=_TEXT,
    width={"type": ["integer", "null"]},
    height={"type": ["integer", "null"]},
    nsfw={"type": ["string", "null"]},
    licence={"type": ["string", "null"]},
    image={**_TEXT, "description": "Path of the stored image on this service."},
    duplicates={**_INTEGER, "description": "Near-duplicates that were collapsed into this result."},
)
_SCHEMAS: dict[str, Any] = {
    "Error": _object(["error"], error=_object(["code", "message"], code=_TEXT, message=_TEXT, field=_TEXT)),
    "Datasets": _object(["datasets"], datasets={"type": "array", "items": {"type": "object"}}),
    "Search": _object(
        ["dataset", "terms"],
        dataset=_TEXT,
        terms={"type": "array", "items": _TERM, "minItems": 1},
        index={"enum": list(MODALITIES), "default": "image"},
        k={**_INTEGER, "default": 50},
        offset={**_INTEGER, "default": 0},
        collapse={"type": "boolean", "default": True},
        filters=_FILTERS,
        safety_model=_SAFETY_MODEL,
    ),
    "Export": _object(
        ["dataset", "format"],
        dataset=_TEXT,
        format={"enum": list(FORMATS), "description": "json is JSON Lines, webdataset is one tar."},
        uids={"type": "array", "items": _TEXT, "description": "These rows. Without it, the fields of a search."},
        terms={"type": "array", "items": _TERM, "minItems": 1},
        index={"enum": list(MODALITIES), "default": "image"},
        k={**_INTEGER, "description": "Number of rows; at most, and by default, search.max_export_rows."},
        offset={**_INTEGER, "default": 0},
        collapse={"type": "boolean", "default": True},
        filters=_FILTERS,
        safety_model=_SAFETY_MODEL,
    ),
    "Results": _object(
        ["results", "next_offset"],
        results={"type": "array", "items": _RESULT},
        next_offset={"type": ["integer", "null"]},
        hidden={**_INTEGER, "description": "Rows left out because they may not be shown."},
        filtered={**_INTEGER, "description": "Rows left out by filters."},
        collapsed={**_INTEGER, "description": "Near-duplicates left out."},
        took_ms=_object([], encode=_NUMBER, index=_NUMBER, metadata=_NUMBER),
        index_version=_TEXT,
        safety_model={
            "type": ["object", "null"],
            "description": "Name, sha256 and threshold of the safety model, null without one.",
        },
    ),
    "Row": {**_RESULT, "description": "The fields of a result, and provenance, metadata and dagster_links."},
    "Report": _object(["dataset", "uid", "reason"], dataset=_TEXT, uid=_TEXT, reason=_TEXT),
    "Status": _object(["status"], status=_TEXT),
    "Knn": _object(
        ["modality", "num_images", "indice_name"],
        text=_TEXT,
        image=_TEXT,
        image_url=_TEXT,
        embedding_input={"type": "array", "items": _NUMBER},
        modality={"enum": list(MODALITIES)},
        num_images=_INTEGER,
        num_result_ids=_INTEGER,
        indice_name=_TEXT,
        deduplicate={"type": "boolean"},
        use_safety_model={"type": "boolean", "description": "The header X-Ignored-Fields names it if there is none."},
        use_violence_detector={"type": "boolean", "description": "As use_safety_model."},
    ),
    "KnnResults": {"type": "array", "items": {"type": "object"}},
    "Ids": _object(["ids", "indice_name"], ids={"type": "array", "items": _INTEGER}, indice_name=_TEXT),
}
_S = "#/components/schemas/"
_OPERATIONS: dict[tuple[str, str], tuple[str, str, str]] = {
    ("get", "/api/datasets"): ("List the datasets of this service, with their limits.", "", f"{_S}Datasets"),
    ("post", "/api/search"): ("Search by a combination of texts, images and results.", f"{_S}Search", f"{_S}Results"),
    ("get", "/api/results/{dataset}/{id}"): ("Everything about one row, with its provenance.", "", f"{_S}Row"),
    ("post", "/api/export"): ("Download results as one file.", f"{_S}Export", "application/octet-stream"),
    ("post", "/api/report"): ("Report a result to the operator.", f"{_S}Report", f"{_S}Status"),
    ("get", "/images/{dataset}/{id}/{uid}.{format}"): ("The stored image of a row.", "", "image/*"),
    ("get", "/indices-list"): ("clip-retrieval: the names of the datasets.", "", f"{_S}KnnResults"),
    ("post", "/knn-service"): ("clip-retrieval: the nearest rows.", f"{_S}Knn", f"{_S}KnnResults"),
    ("post", "/metadata"): ("clip-retrieval: the metadata of ids.", f"{_S}Ids", f"{_S}KnnResults"),
    ("get", "/metrics"): ("Prometheus metrics.", "", "text/plain"),
    ("get", "/healthz"): ("The process answers.", "", f"{_S}Status"),
    ("get", "/readyz"): ("Models are loaded and indices are open.", "", f"{_S}Status"),
}
"""By method and path: summary, schema of the body, schema or media type of the answer."""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ api.info.title }}: API</title>
<link rel="icon" href="/page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/page/styles/theme.css">
<link rel="stylesheet" href="/page/docs.css">
</head>
<body>
<main>
<h1>{{ api.info.title }} {{ api.info.version }}</h1>
<p>{{ api.info.description }} <a href="/openapi.json">openapi.json</a></p>
{% for path, operations in api.paths.items() %}
{% for method, operation in operations.items() %}
<section>
<h2><code>{{ method | upper }} {{ path }}</code></h2>
<p>{{ operation.summary }}</p>
{% if operation.requestBody %}
<details><summary>Body</summary>
{% set name = operation.requestBody.content["application/json"].schema["$ref"].split("/")[-1] %}
<pre>{{ pretty(api.components.schemas[name]) }}</pre></details>
{% endif %}
</section>
{% endfor %}
{% endfor %}
</main>
</body>
</html>
"""
