"""The reason for a row's outcome: one enum, stored in each shard's parquet as the column `reason`.

The parquet also has img2dataset's columns `status` (`success`, `failed_to_download`, `failed_to_resize`) and
`error_message`, which starts with the reason: `too_large: the body is larger than 20000000 bytes`.
"""

from enum import StrEnum

SUCCESS_STATUS = "success"
DOWNLOAD_STATUS = "failed_to_download"
RESIZE_STATUS = "failed_to_resize"


class Reason(StrEnum):
    """The outcome of one row. Values are stable: they are stored in parquet files, manifests and plots."""

    SUCCESS = "success"

    INVALID_URL = "invalid_url"
    UNSUPPORTED_SCHEME = "unsupported_scheme"
    BLOCKED_PORT = "blocked_port"
    BLOCKED_ADDRESS = "blocked_address"

    DNS_FAILURE = "dns_failure"
    NO_ROUTE = "no_route"
    LOCAL_FAILURE = "local_failure"
    CONNECT_FAILURE = "connect_failure"
    TLS_FAILURE = "tls_failure"
    CONNECTION_RESET = "connection_reset"
    DEADLINE = "deadline"
    HOST_BUSY = "host_busy"
    SHORT_BODY = "short_body"
    TOO_LARGE = "too_large"
    BAD_RESPONSE = "bad_response"
    BAD_ENCODING = "bad_encoding"

    REDIRECT_LOOP = "redirect_loop"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BAD_REDIRECT = "bad_redirect"

    NO_CONTENT = "no_content"
    HTTP_403 = "http_403"
    HTTP_404 = "http_404"
    HTTP_410 = "http_410"
    HTTP_429 = "http_429"
    HTTP_451 = "http_451"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    HTTP_OTHER = "http_other"
    OPTED_OUT = "opted_out"

    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_PIXELS = "too_many_pixels"
    IMAGE_TOO_SMALL = "image_too_small"
    ASPECT_RATIO = "aspect_ratio"
    UNDECODABLE = "undecodable"
    DECODER_CRASH = "decoder_crash"
    DECODE_TIMEOUT = "decode_timeout"

    INTERNAL = "internal"

    @property
    def status(self) -> str:
        """img2dataset's status of rows with this reason. Rows with `internal` may also have the other failed status."""
        if self is Reason.SUCCESS:
            return SUCCESS_STATUS
        return RESIZE_STATUS if self in _AFTER_DOWNLOAD else DOWNLOAD_STATUS

    @property
    def is_retryable(self) -> bool:
        """Whether another try moments later may succeed. False for opt-outs, 404, 410 and 451."""
        return self in _RETRYABLE

    @property
    def is_local_failure(self) -> bool:
        """Whether the cause is more likely on this machine than at the site: DNS, network, memory, a defect."""
        return self in _LOCAL

    @property
    def may_be_local(self) -> bool:
        """Whether a local failure can cause it: DNS, firewall, CA certificates, proxy, captive portal, CPU load."""
        return self in _MAY_BE_LOCAL

    @property
    def shows_site(self) -> bool:
        """Whether the site itself has responded, so that the network works.

        A reason for which this and `may_be_local` are both false is not evidence in either direction.
        """
        return self in _SHOWS_SITE

    @classmethod
    def of_http_status(cls, status: int) -> "Reason":
        """Return the reason for a final HTTP status outside of 200 to 299 (RFC 9110)."""
        named = f"http_{status}"
        if named in cls._value2member_map_:
            return cls(named)
        return {4: cls.HTTP_4XX, 5: cls.HTTP_5XX}.get(status // 100, cls.HTTP_OTHER)


_AFTER_DOWNLOAD = {
    Reason.NOT_AN_IMAGE,
    Reason.UNSUPPORTED_FORMAT,
    Reason.TOO_MANY_PIXELS,
    Reason.IMAGE_TOO_SMALL,
    Reason.ASPECT_RATIO,
    Reason.UNDECODABLE,
    Reason.DECODER_CRASH,
    Reason.DECODE_TIMEOUT,
    Reason.INTERNAL,
}
_RETRYABLE = {
    Reason.DNS_FAILURE,
    Reason.NO_ROUTE,
    Reason.LOCAL_FAILURE,
    Reason.CONNECT_FAILURE,
    Reason.CONNECTION_RESET,
    Reason.HOST_BUSY,
    Reason.SHORT_BODY,
    Reason.HTTP_429,
    Reason.HTTP_5XX,
}
_SHOWS_SITE = {
    Reason.SUCCESS,
    Reason.HTTP_404,
    Reason.HTTP_410,
    Reason.HTTP_451,
    Reason.OPTED_OUT,
    Reason.TOO_LARGE,
    Reason.TOO_MANY_PIXELS,
    Reason.IMAGE_TOO_SMALL,
    Reason.ASPECT_RATIO,
}
_MAY_BE_LOCAL = (
    set(Reason)
    - _SHOWS_SITE
    - {Reason.INVALID_URL, Reason.UNSUPPORTED_SCHEME, Reason.BLOCKED_PORT}  # found in the URL, before a request
)
_LOCAL = {Reason.DNS_FAILURE, Reason.NO_ROUTE, Reason.LOCAL_FAILURE, Reason.INTERNAL}


class Rejection(Exception):  # noqa: N818  (an outcome of one row, not an error of the program)
    """The failure of one row. Its text is stored in img2dataset's column `error_message`.

    The text contains nothing that differs between two runs with the same responses (no times, no local addresses), so
    that the same input produces the same parquet bytes. `retry_after_s` is the response's Retry-After, in seconds.
    """

    def __init__(self, reason: Reason, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"
