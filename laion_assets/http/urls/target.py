"""Parse URLs into scheme, host, port and request target, and follow redirects."""

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from laion_assets.reasons import Reason, Rejection

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_HOST_CHARS = 253
MAX_LABEL_CHARS = 63
_HOST = re.compile(r"[a-z0-9_.-]+\Z")
_SENT_RAW = re.compile(r"[!#-;=?-_a-~]++\Z")
_NOT_SENT_RAW = re.compile(rb"[^\x21-\x7e]|[\"<>`]")


class Target(NamedTuple):
    """A parsed http or https URL.

    `host` is lower-case ASCII (IDNA), an IPv6 literal without brackets. `path` is the request target: path and query.
    `origin` is scheme, host and port, as `https://a.test:443`. `host_header` is the Host header (RFC 9110, 7.2): it
    has the port only where it is not the scheme's default port.
    """

    url: str
    scheme: str
    host: str
    port: int
    path: str
    origin: str
    host_header: str


def get_origin(url: str) -> str:
    """Return the origin of a URL, empty for an invalid URL."""
    try:
        return parse_target(url).origin
    except Rejection:
        return ""


@lru_cache(maxsize=1_024)
def parse_target(url: str) -> Target:
    """Parse a URL. Characters that may not be sent raw are percent-encoded as UTF-8, as in browsers.

    Raises Rejection: `invalid_url`, or `unsupported_scheme` for all schemes but http and https.
    """
    url = url.strip()
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise Rejection(Reason.INVALID_URL, _printable(str(error))) from error
    host, port, origin, host_header = _authority(parts.scheme, parts.netloc)
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    if not _SENT_RAW.match(path):
        path = _percent_encode(path.encode("utf-8", "surrogatepass"))
    return Target(url, parts.scheme, host, port, path if path[0] == "/" else f"/{path}", origin, host_header)


@lru_cache(maxsize=4_096)
def _authority(scheme: str, netloc: str) -> tuple[str, int, str, str]:
    """Return host, port, origin and Host header of a URL. Cached: hosts repeat more often than paths.

    Raises Rejection.
    """
    parts = SplitResult(scheme, netloc, "", "", "")
    try:
        port = parts.port
    except ValueError as error:
        raise Rejection(Reason.INVALID_URL, _printable(str(error))) from error
    if not scheme:
        raise Rejection(Reason.INVALID_URL, "no scheme")
    if scheme not in DEFAULT_PORTS:
        raise Rejection(Reason.UNSUPPORTED_SCHEME, f"{_printable(scheme)} is not fetched, only http and https")
    if port == 0:
        raise Rejection(Reason.INVALID_URL, "port 0")
    if "\\" in netloc:  # browsers end the host here and Python does not: refuse what parsers read differently
        raise Rejection(Reason.INVALID_URL, "a backslash in the host")
    host, port = _ascii_host(parts), port or DEFAULT_PORTS[scheme]
    bracketed = f"[{host}]" if ":" in host else host
    host_header = bracketed if port == DEFAULT_PORTS[scheme] else f"{bracketed}:{port}"
    return host, port, f"{scheme}://{bracketed}:{port}", host_header


def _percent_encode(raw: bytes) -> str:
    return _NOT_SENT_RAW.sub(lambda byte: b"%%%02X" % byte.group()[0], raw).decode("ascii")


def follow(target: Target, location: str) -> Target:
    """Return the target of a redirect. `location` is the Location header as latin-1 text. Raises Rejection.

    Bytes outside ASCII, which RFC 9110 does not allow but servers send, are percent-encoded.
    """
    encoded = _percent_encode(location.strip().encode("latin-1", "replace"))
    if not encoded:
        raise Rejection(Reason.BAD_REDIRECT, "an empty Location header")
    try:
        joined = urljoin(target.url, encoded)
    except ValueError as error:
        raise Rejection(Reason.BAD_REDIRECT, "a malformed Location header") from error
    try:
        return parse_target(joined)
    except Rejection as rejection:
        if rejection.reason is Reason.INVALID_URL:
            raise Rejection(Reason.BAD_REDIRECT, f"a malformed Location header ({rejection.detail})") from rejection
        raise


def follow_source(target: Target, location: str) -> Target:
    """Do the same for a source file, and refuse a redirect from https to http. Raises Rejection."""
    found = follow(target, location)
    if target.scheme == "https" and found.scheme != "https":
        raise Rejection(Reason.BAD_REDIRECT, "a redirect from https to http")
    return found


def _ascii_host(parts: SplitResult) -> str:
    host = (parts.hostname or "").lower()
    if not host:
        raise Rejection(Reason.INVALID_URL, "no host")
    if ":" in host:  # an IPv6 literal: the guard checks it
        return host.partition("%")[0]
    if not host.isascii():
        host = _idna(host)
    bare = host.removesuffix(".")
    labels = bare.split(".")
    if not _HOST.match(host) or len(bare) > MAX_HOST_CHARS or not all(0 < len(x) <= MAX_LABEL_CHARS for x in labels):
        raise Rejection(Reason.INVALID_URL, "invalid host name")
    return bare if labels[-1][0].isdigit() else host  # `127.0.0.1.` is an IPv4 address, as in the URL standard


def _idna(host: str) -> str:
    """Return the ASCII form of an international host name by UTS 46, non-transitional, as browsers do (`ß` stays `ß`).

    Labels are mapped and encoded, but not validated by IDNA 2008: browsers accept emoji too. Raises Rejection.
    """
    import idna

    try:
        mapped = idna.uts46_remap(host[: 2 * MAX_HOST_CHARS], std3_rules=False, transitional=False)
        labels = (
            label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in mapped.split(".")
        )
        return ".".join(labels).lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise Rejection(Reason.INVALID_URL, "the host has no IDNA form") from error


def _printable(text: str) -> str:
    """Return untrusted text for a message: printable ASCII, at most 80 characters."""
    return "".join(character if " " <= character <= "~" else "?" for character in text)[:80]
