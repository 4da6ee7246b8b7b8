"""Why a row has its picture, or has none: one enum, written into each shard's parquet as the column `reason`.

Beside it stand img2dataset's own `status` (`success`, `failed_to_download`, `failed_to_resize`) and `error_message`,
which starts with the reason's value: `too_large: the body is larger than 20000000 bytes`.
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
        """img2dataset's status for rows with this reason; `internal` may come with either failure."""
        if self is Reason.SUCCESS:
            return SUCCESS_STATUS
        return RESIZE_STATUS if self in _AFTER_DOWNLOAD else DOWNLOAD_STATUS

    @property
    def is_retryable(self) -> bool:
        """Whether another try moments later may end otherwise. Refusals, 404, 410 and 451 never are."""
        return self in _RETRYABLE

    @property
    def is_local_failure(self) -> bool:
        """Whether the fault is more likely ours than the site's: a shard full of these says nothing of the web."""
        return self in _OWN_SIDE

    @property
    def may_be_local(self) -> bool:
        """Whether a fault of this machine or its network can produce it: DNS, firewall, CAs, proxy, portal, CPU."""
        return self in _MAY_BE_LOCAL

    @property
    def shows_site(self) -> bool:
        """Whether the site itself has answered. A reason that neither shows the site nor may be local says nothing."""
        return self in _SHOWS_SITE

    @classmethod
    def of_http_status(cls, status: int) -> "Reason":
        """The reason for a final answer that brings no body worth reading (RFC 9110); 200 to 299 are not asked here."""
        named = f"http_{status}"
        if named in cls._value2member_map_:
            return cls(named)
        return {4: cls.HTTP_4XX, 5: cls.HTTP_5XX}.get(status // 100, cls.HTTP_OTHER)

    @classmethod
    def of_message(cls, status: str, message: str | None) -> "Reason":
        """The reason that an img2dataset row's status and error message stand for.

        Our messages start with the reason's value. The only foreign ones of a download are those of
        `urllib.request.Request`, which refuses malformed URLs before our opener sees them; others are `internal`.
        """
        if status == SUCCESS_STATUS:
            return cls.SUCCESS
        prefix = (message or "").partition(":")[0]
        if prefix in cls._value2member_map_ and prefix != cls.SUCCESS:
            return cls(prefix)
        return cls.INVALID_URL if message and status == DOWNLOAD_STATUS else cls.INTERNAL


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
    - {Reason.INVALID_URL, Reason.UNSUPPORTED_SCHEME, Reason.BLOCKED_PORT}  # the URL's own, before any request
)
_OWN_SIDE = {Reason.DNS_FAILURE, Reason.NO_ROUTE, Reason.LOCAL_FAILURE, Reason.INTERNAL}


class Rejection(Exception):  # noqa: N818  (an outcome of one row, not an error of the program)
    """One row ends here. Its text is what img2dataset stores as `error_message`; it holds nothing that varies
    between two runs that met the same answers (no times, no addresses of our side), so that parquet files repeat.
    """

    def __init__(self, reason: Reason, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}"
