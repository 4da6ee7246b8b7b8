"""Answers of the API: JSON, errors with a code, and the JSON bodies of requests."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from laion_assets.errors import QueryError

MAX_SEPARATORS = 100_000
"""Maximum number of commas and brackets in a body. A body of 27 MB could otherwise hold millions of empty lists, which
take a hundred times its size in memory. Base64, the only large content, has none."""


class ApiError(Exception):
    """An error with its HTTP status. `retry_after_s` is sent as Retry-After."""

    def __init__(self, status: int, code: str, message: str, field: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after_s = retry_after_s


def to_json(value: Any) -> bytes:
    """Serialize a value. `<` is escaped, so that an answer that is taken for HTML has no markup."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c").encode()


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response that caches do not keep."""
    return Response(to_json(value), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def error_response(error: ApiError) -> Response:
    """Return the response of an error: {"error": {"code", "message", "field"}}."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    body: dict[str, str] = {"code": error.code, "message": str(error)}
    if error.field:
        body["field"] = error.field
    return json_response({"error": body}, error.status, headers)


def from_query_error(error: QueryError) -> ApiError:
    """Return the API error of an invalid query: 404 for what does not exist or may not be shown, else 400."""
    return ApiError(404 if error.code == "not_found" else 400, error.code, str(error), error.field)


async def read_json(request: Request) -> Any:
    """Parse the JSON body of a request. Raises ApiError 400. The size is limited before (`limits.py`)."""
    return parse_json(await request.body())


def parse_json(body: bytes) -> Any:
    """Parse JSON from a stranger: valid UTF-8, not deeply nested, few values, no numbers like NaN. Raises ApiError."""
    if sum(map(body.count, (b",", b"[", b"{", b":"))) > MAX_SEPARATORS:
        raise ApiError(400, "invalid_json", "The body has too many values.")
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError:
        raise ApiError(400, "invalid_json", "The body is nested too deeply.") from None
    except ValueError as error:  # also for an integer with more digits than Python reads
        raise ApiError(400, "invalid_json", f"The body is not valid JSON: {str(error)[:200]}.") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
