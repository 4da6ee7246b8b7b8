"""Downloads of results: POST /api/export with the fields of a search, or with uids."""

import contextlib
import dataclasses
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from laion_assets.errors import QueryError
from laion_assets.export.one_file import FoundRow, OneFile, export_found, export_uids
from laion_assets.export.request import FORMATS
from laion_assets.search.dataset_search import DatasetSearch, combine
from laion_assets.search.queries.request import SearchRequest, check_fields, parse_flag, parse_name, parse_request
from laion_assets.search.results.find import Hit
from laion_assets.search.stored_images import shard_of
from laion_assets.server.api.answers import ApiError, read_json
from laion_assets.server.api.search import encode_terms
from laion_assets.server.service import Service

MEDIA_TYPES = {
    "parquet": ("parquet", "application/vnd.apache.parquet"),
    "csv": ("csv", "text/csv; charset=utf-8"),
    "json": ("jsonl", "application/x-ndjson"),
    "npy": ("npy", "application/octet-stream"),
    "webdataset": ("tar", "application/x-tar"),
}
"""File suffix and media type of each format."""
_CHUNK_BYTES = 1 << 18
_Write = Callable[[str, Path], OneFile | None]


async def export_rows(request: Request) -> Response:
    """Answer with a file of the results. Its number of rows and the digest of its recipe are in headers.

    The file is complete before the answer starts, so an error has its status and never ends a download midway.
    """
    service: Service = request.app.state.service
    body = await read_json(request)
    target = service.search(parse_name(body) if isinstance(body, dict) else "")
    file_format = body.pop("format", None)
    if file_format not in FORMATS:
        raise QueryError(
            f"Unknown format {str(file_format)[:60]!r}. Choose from {', '.join(FORMATS)}.", "format", "invalid_format"
        )
    uids = _parse_uids(body, target) if "uids" in body else None
    query = None if uids is not None else _parse_query(body, target)
    with contextlib.ExitStack() as stack:
        with service.admit():
            write = _uid_writer(target, uids) if uids is not None else await _result_writer(service, target, query)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="laion-assets-export-")))
            path = folder / "rows"
            written = await service.run(write, file_format, path)
        if written is None or not written.rows:
            raise ApiError(404, "no_rows", "No row can be exported: nothing was found, or nothing of it may be shown.")
        kept = stack.pop_all()
    suffix, media_type = MEDIA_TYPES[file_format]
    headers = {
        "Content-Disposition": f'attachment; filename="{quote(target.dataset.name, safe="")}-export.{suffix}"',
        "Content-Length": str(path.stat().st_size),
        "X-Export-Rows": str(written.rows),
        "X-Recipe-Digest": written.digest,
        **({"X-Safety-Model": f"sha256:{target.safety.sha256}"} if target.safety is not None else {}),
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
    }
    return StreamingResponse(_read(path, kept), 200, headers, media_type)


def _parse_query(body: Mapping[str, Any], target: DatasetSearch) -> SearchRequest:
    """Parse the fields of a search. `k` is the number of rows, and the row limit if it is missing."""
    most = target.settings.max_export_rows
    limits = dataclasses.replace(target.settings, max_k=most)
    query = parse_request({"k": most, **body}, limits)
    target.require_safety_model(query.safety_model)
    return query


def _parse_uids(body: Mapping[str, Any], target: DatasetSearch) -> list[str]:
    check_fields(body, {"dataset", "uids", "safety_model"}, "")
    target.require_safety_model(parse_flag(body, "safety_model", False))
    uids, most = body["uids"], target.settings.max_export_rows
    if not isinstance(uids, list) or not 1 <= len(uids) <= most:
        raise QueryError(f"uids must be a list of 1 to {most:,} uids.", "uids", "invalid_uids")
    for number, uid in enumerate(uids):
        if not isinstance(uid, str) or len(uid) != 32 or set(uid) - set("0123456789abcdef"):
            raise QueryError(
                f"uids[{number}] is not a uid: expected 32 hexadecimal digits.", f"uids[{number}]", "invalid_uids"
            )
    return uids


def _uid_writer(target: DatasetSearch, uids: list[str]) -> _Write:
    return lambda file_format, path: export_uids(target.dataset, uids, file_format, path)


async def _result_writer(service: Service, target: DatasetSearch, query: SearchRequest | None) -> _Write:
    """Run a search, and return the function that writes its results."""
    assert query is not None
    vectors = await encode_terms(service, target, query.terms)
    found = await service.run(target.find, combine(query.terms, vectors), query)
    rows = [_found_row(hit) for hit in found.hits]
    return lambda file_format, path: export_found(target.dataset, rows, file_format, path) if rows else None


def _found_row(hit: Hit) -> FoundRow:
    return FoundRow(hit.row["uid"], shard_of(str(hit.row["image_path"])), hit.similarity)


async def _read(path: Path, kept: contextlib.ExitStack) -> AsyncIterator[bytes]:
    """Yield the file in chunks, and delete it at the end, also if the client is gone."""
    with kept, path.open("rb") as file:
        while chunk := await run_in_threadpool(file.read, _CHUNK_BYTES):
            yield chunk
