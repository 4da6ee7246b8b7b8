"""Stored images, from the shards: GET /images/NAME/ID/UID.EXT."""

import hashlib
import re

from starlette.requests import Request
from starlette.responses import Response

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.errors import IntegrityError
from laion_assets.server.api.answers import ApiError
from laion_assets.server.service import Service

MEDIA_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_FILE = re.compile(rf"([0-9a-f]{{32}})\.({'|'.join(ENCODE_FORMATS)})", re.ASCII)
HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Disposition": "inline",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


async def show_image(request: Request) -> Response:
    """Answer with the stored bytes of a row's image, or 304. 404 for rows that are hidden or have another uid."""
    service: Service = request.app.state.service
    target = service.search(request.path_params["dataset"])
    named = _FILE.fullmatch(request.path_params["file"])
    if named is None:
        raise ApiError(404, "not_found", "An image path ends in UID.jpg, UID.png or UID.webp.")
    with service.admit():
        try:
            image = await service.run(target.image, int(request.path_params["id"]), named[1])
        except IntegrityError as error:
            raise ApiError(404, "image_missing", str(error)) from error
    tag = f'"{hashlib.sha256(image.content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}
    if tag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(image.content, 200, headers, MEDIA_TYPES[image.format])
