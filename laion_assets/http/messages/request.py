"""Serialise a request. All clients use this function."""

import re
from collections.abc import Mapping

from laion_assets.http.urls.target import Target
from laion_assets.reasons import Reason, Rejection

_REQUEST = re.compile(r"GET [\x21-\x7e]++ HTTP/1\.1\r\n(?:[A-Za-z0-9-]++: [\x20-\x7e\x80-\xff]*+\r\n)++\r\n")


def request_bytes(target: Target, headers: Mapping[str, str]) -> bytes:
    """Return a GET request for the target with a Host header and these headers.

    Raises Rejection `internal` for control characters in a header or in the path. Some values come from a server (ETag,
    Last-Modified, Location), and a line break in one would start another header or another request.
    """
    lines = [f"GET {target.path} HTTP/1.1", f"Host: {target.host_header}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines) + "\r\n\r\n"
    # The pattern also matches additional header lines, so the number of lines is checked too.
    if text.count("\n") != len(lines) + 1 or not _REQUEST.fullmatch(text):
        raise Rejection(Reason.INTERNAL, "a request with control characters was not sent")
    return text.encode("latin-1")
