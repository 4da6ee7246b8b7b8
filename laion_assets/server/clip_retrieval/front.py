"""clip-retrieval's front end, unchanged from its wheel, at /clip-front/."""

import importlib.util
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from laion_assets.server.api.answers import json_response
from laion_assets.server.service import Service

PATH = "/clip-front"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""The front end has inline styles. It cannot load images of other hosts, nor call another service."""


def front_routes() -> list[BaseRoute]:
    """Return the routes of the front end, none if clip-retrieval is not installed."""
    folder = find_front()
    if folder is None:
        return []
    return [Route(f"{PATH}/config.json", show_config), Mount(PATH, _Front(directory=folder, html=True))]


def find_front() -> Path | None:
    """Return the folder of the front end in the installed wheel, without an import of clip-retrieval."""
    found = importlib.util.find_spec("clip_retrieval")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parents[1] / "front" / "build"
    return folder if (folder / "index.html").is_file() else None


async def show_config(request: Request) -> Response:
    """GET /clip-front/config.json: this service as the backend, and the column with the images that it stores.

    An empty backend is the origin of the page, also behind a proxy that ends TLS.
    """
    service: Service = request.app.state.service
    return json_response(
        {"defaultBackend": "", "defaultIndex": next(iter(service.searches)), "urlColumn": "stored_image"}
    )


class _Front(StaticFiles):
    def file_response(self, *arguments: object, **options: object) -> Response:
        response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        return response
