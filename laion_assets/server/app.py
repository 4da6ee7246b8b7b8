"""The ASGI application."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from laion_assets.errors import IntegrityError, LaionAssetsError, QueryError
from laion_assets.server.api import export, images, openapi, reports, search
from laion_assets.server.api.answers import ApiError, error_response, from_query_error, json_response
from laion_assets.server.clip_retrieval import api as clip_retrieval_api
from laion_assets.server.clip_retrieval.front import front_routes
from laion_assets.server.metrics import RequestMetrics
from laion_assets.server.protection.access import AccessControl
from laion_assets.server.protection.body_budget import BodyBudget
from laion_assets.server.protection.clients import ClientLimits
from laion_assets.server.protection.limits import OVERHEAD_BYTES, RequestLimits
from laion_assets.server.service import Service
from laion_assets.server.service_state import ServiceState

LARGE_BODIES = 8
"""Bodies of the maximum size that are in memory at the same time."""
PAGE = Path(__file__).with_name("page")
_log = logging.getLogger(__name__)


def build_app(service: Service, hosts: Sequence[str] = (), token: str = "") -> Starlette:
    """Build the application of a service.

    `hosts` are host names that it answers for, besides loopback and `search.allowed_hosts`. With a `token`, each
    request must send it. The application closes the service when it ends.
    """
    settings = service.settings
    files = max(each.settings.max_image_bytes for each in service.searches.values())
    largest = files * 4 // 3 + OVERHEAD_BYTES  # base64

    @contextlib.asynccontextmanager
    async def run(app: Starlette) -> AsyncIterator[None]:
        refresh = asyncio.create_task(service.refresh_forever())
        try:
            yield
        finally:
            refresh.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refresh
            await asyncio.to_thread(service.close)

    app = Starlette(
        routes=[
            Route("/", show_page),
            Mount("/page", PageFiles(directory=PAGE)),
            Route("/api/datasets", search.list_datasets),
            Route("/api/search", search.search, methods=["POST"]),
            Route("/api/results/{dataset}/{id:int}", search.show_result),
            Route("/images/{dataset}/{id:int}/{file}", images.show_image),
            Route("/api/export", export.export_rows, methods=["POST"]),
            Route("/api/report", reports.report_result, methods=["POST"]),
            Route("/openapi.json", openapi.show_openapi),
            Route("/docs", openapi.show_docs),
            Route("/healthz", show_health),
            Route("/readyz", show_readiness),
            Route("/indices-list", clip_retrieval_api.list_indices, methods=["GET", "POST"]),
            Route("/knn-service", clip_retrieval_api.search_knn, methods=["POST"]),
            Route("/metadata", clip_retrieval_api.read_metadata, methods=["POST"]),
            Route("/metrics", clip_retrieval_api.show_metrics),
            Route("/metrics-summary", clip_retrieval_api.show_metrics_summary),
            *front_routes(),
        ],
        middleware=[
            Middleware(RequestMetrics, service.metrics),
            Middleware(AccessControl, [*settings.allowed_hosts, *hosts], settings.cors_origins, token),
            Middleware(ClientLimits, settings.client_requests, settings.proxies),
            Middleware(RequestLimits, largest, settings.deadline_s),
            Middleware(BodyBudget, LARGE_BODIES * largest),
        ],
        exception_handlers={
            ApiError: _answer_error,
            LaionAssetsError: _answer_error,
            HTTPException: _answer_error,
            Exception: _answer_error,
        },
        lifespan=run,
    )
    service.metrics.registry.register(ServiceState(service))
    app.state.service = service
    return app


class PageFiles(StaticFiles):
    """The files of the search page. Browsers ask whether one changed, so that an update never mixes two versions."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """Answer with a file, or 304."""
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def show_page(request: Request) -> Response:
    """GET /: the search page."""
    return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})


async def show_health(request: Request) -> Response:
    """GET /healthz: the process answers; the safety model of each dataset, null without one."""
    service: Service = request.app.state.service
    models = {name: search.describe_safety(each) for name, each in service.searches.items()}
    return json_response({"status": "ok", "safety_models": models})


async def show_readiness(request: Request) -> Response:
    """GET /readyz: 200 if all models are loaded and all indices are open, else 503."""
    service: Service = request.app.state.service
    try:
        if service.ready:
            versions = {name: each.current.version.version for name, each in service.searches.items()}
            return json_response({"status": "ready", "index_versions": versions})
    except LaionAssetsError as error:
        raise ApiError(503, "not_ready", str(error)) from error
    raise ApiError(503, "not_ready", "The models are still loading.", retry_after_s=1)


async def _answer_error(request: Request, error: Exception) -> Response:
    return error_response(_to_api_error(error))


def _to_api_error(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueryError):
        return from_query_error(error)
    if isinstance(error, HTTPException):
        return ApiError(error.status_code, "not_found" if error.status_code == 404 else "http_error", error.detail)
    if isinstance(error, IntegrityError):
        _log.warning("%s", error)
        return ApiError(503, "index_unavailable", "The index is being replaced or is damaged.", retry_after_s=5)
    if isinstance(error, LaionAssetsError):
        return ApiError(503, "unavailable", str(error))
    return ApiError(500, "internal", "An unexpected error occurred. The log of the service has the details.")
