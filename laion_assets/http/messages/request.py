"""The bytes of a request: one place that writes them, for every client."""

import re
from collections.abc import Mapping

from laion_assets.http.urls.target import Target
from laion_assets.reasons import Reason, Rejection

_FIELD_NAME = re.compile(r"[A-Za-z0-9-]+\Z")
_FIELD_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*\Z")
_PATH = re.compile(r"[\x21-\x7e]+\Z")


def request_bytes(target: Target, headers: Mapping[str, str]) -> bytes:
    """A GET request for the target with these headers, beside Host.

    Raises Rejection `internal` for control characters in a header or in the path: values that a server sent are sent
    back (ETag, Last-Modified, Location), and a line break in one would start another header or another request.
    """
    if not _PATH.match(target.path) or not _PATH.match(target.host_header):
        raise Rejection(Reason.INTERNAL, "a request target with control characters was not sent")
    for name, value in headers.items():
        if not _FIELD_NAME.match(name) or not _FIELD_VALUE.match(value):
            raise Rejection(Reason.INTERNAL, f"a header {name[:40]!r} with control characters was not sent")
    lines = [f"GET {target.path} HTTP/1.1", f"Host: {target.host_header}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
