"""Reports of results to the operator: POST /api/report appends a line to a file."""

import json
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from laion_assets.errors import QueryError
from laion_assets.search.queries.request import check_fields, parse_name
from laion_assets.server.api.answers import ApiError, json_response, read_json
from laion_assets.server.service import Service

MAX_REASON_CHARS = 1_000
_UID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_lock = threading.Lock()


async def report_result(request: Request) -> Response:
    """Append dataset, uid, reason and time of a report to `search.report_file`. The answer is 202."""
    service: Service = request.app.state.service
    body = await read_json(request)
    if not isinstance(body, dict):
        raise QueryError("The body must be a JSON object.", "", "invalid_json")
    check_fields(body, {"dataset", "uid", "reason"}, "")
    dataset = service.search(parse_name(body)).dataset.name
    uid, reason = body.get("uid"), body.get("reason")
    if not isinstance(uid, str) or not _UID.fullmatch(uid):
        raise QueryError("uid must have 32 hexadecimal digits.", "uid", "invalid_uid")
    if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON_CHARS:
        raise QueryError(f"reason must be a text of 1 to {MAX_REASON_CHARS:,} characters.", "reason", "invalid_reason")
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "dataset": dataset, "uid": uid, "reason": reason}
    with service.admit():
        await service.run(_append, Path(service.settings.report_file), entry, service.settings.max_report_bytes)
    return json_response({"status": "accepted"}, 202)


def _append(path: Path, entry: dict[str, str], max_bytes: int) -> None:
    line = json.dumps(entry) + "\n"  # ASCII: the operator may look at it in a terminal
    try:
        with _lock, path.open("a", encoding="ascii") as file:
            if file.tell() + len(line) > max_bytes:
                raise ApiError(
                    503, "reports_full", "The file of reports is full. Tell the operator of this service.", "", 3_600
                )
            file.write(line)
    except OSError as error:
        raise ApiError(503, "reports_unavailable", "Reports cannot be stored now.", "", 60) from error
