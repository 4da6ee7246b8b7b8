"""Texts of the img2dataset program are mapped to our reasons."""

import pytest

from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.adoption.reasons import reason_of

DOWNLOAD = {
    "HTTP Error 404: Not Found": "http_404",
    "HTTP Error 403: Forbidden": "http_403",
    "HTTP Error 418: I'm a teapot": "http_4xx",
    "HTTP Error 503: Service Unavailable": "http_5xx",
    "HTTP Error 302: The HTTP server returned a redirect error that would lead to an infinite loop.": "redirect_loop",
    "<urlopen error [Errno -2] Name or service not known>": "dns_failure",
    "<urlopen error [Errno -3] Temporary failure in name resolution>": "dns_failure",
    "<urlopen error [Errno 111] Connection refused>": "connect_failure",
    "<urlopen error [Errno 113] No route to host>": "no_route",
    "[Errno 104] Connection reset by peer": "connection_reset",
    "Remote end closed connection without response": "connection_reset",
    "<urlopen error timed out>": "deadline",
    "The read operation timed out": "deadline",
    "<urlopen error _ssl.c:989: The handshake operation timed out>": "deadline",
    "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)>": "tls_failure",
    "IncompleteRead(1024 bytes read, 2048 more expected)": "short_body",
    "unknown url type: 'notaurl'": "invalid_url",
    "<urlopen error unknown url type: gopher>": "unsupported_scheme",
    "URL can't contain control characters. '/a b' (found at least ' ')": "invalid_url",
    "'ascii' codec can't encode characters in position 10-11: ordinal not in range(128)": "invalid_url",
    "Use of image disallowed by X-Robots-Tag directive": "opted_out",
    "hash mismatch": "internal",
    "something new": "internal",
    None: "internal",
}
RESIZE = {
    "Image decoding error": "undecodable",
    "image too small": "image_too_small",
    "aspect ratio too large": "aspect_ratio",
    None: "undecodable",
}


@pytest.mark.parametrize(("message", "reason"), DOWNLOAD.items())
def test_failed_downloads(message: str | None, reason: str) -> None:
    assert reason_of("failed_to_download", message) is Reason(reason)


@pytest.mark.parametrize(("message", "reason"), RESIZE.items())
def test_failed_resizes(message: str | None, reason: str) -> None:
    assert reason_of("failed_to_resize", message) is Reason(reason)


def test_success() -> None:
    assert reason_of("success", None) is Reason.SUCCESS
