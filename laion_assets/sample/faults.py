"""The faults of the real web: the response in place of an image, and the reason of its row."""

from dataclasses import dataclass

from laion_assets.reasons import Reason


@dataclass(frozen=True)
class Fault:
    """One kind of fault: its name, its pages in the full crawl, the reason of their rows, and the response.

    `url` is set if the URL itself is the fault. The site is then never requested, and `{index}` is the page number.
    `slow` marks kinds that end only at the deadline of the fetcher.
    """

    kind: str
    pages: int
    reason: Reason
    meaning: str
    url: str = ""
    slow: bool = False


FAULTS: tuple[Fault, ...] = (
    Fault("not_found", 24, Reason.HTTP_404, "404"),
    Fault("gone", 8, Reason.HTTP_410, "410"),
    Fault("forbidden", 14, Reason.HTTP_403, "403"),
    Fault("legal", 4, Reason.HTTP_451, "451"),
    Fault("rate_limited", 6, Reason.HTTP_429, "429 with Retry-After: 1, always"),
    Fault("server_error", 6, Reason.HTTP_5XX, "500, always"),
    Fault("unavailable", 6, Reason.HTTP_5XX, "503 with Retry-After: 1, always"),
    Fault("no_content", 5, Reason.NO_CONTENT, "204"),
    Fault("redirect", 30, Reason.SUCCESS, "302 to an image on another host"),
    Fault("redirect_loop", 4, Reason.REDIRECT_LOOP, "302 to itself"),
    Fault("redirect_chain", 4, Reason.TOO_MANY_REDIRECTS, "40 redirects in a row, then an image"),
    Fault("redirect_private", 4, Reason.BLOCKED_ADDRESS, "302 to http://10.0.0.1/"),
    Fault("redirect_file", 4, Reason.UNSUPPORTED_SCHEME, "302 to file:///etc/passwd"),
    Fault("redirect_nowhere", 4, Reason.BAD_REDIRECT, "301 without Location"),
    Fault("slow_body", 14, Reason.DEADLINE, "one byte per second", slow=True),
    Fault("endless_body", 12, Reason.DEADLINE, "a chunked body that never ends, 300 KB/s", slow=True),
    Fault("endless_headers", 12, Reason.DEADLINE, "a header line every 0.2 s, forever", slow=True),
    Fault("silence", 14, Reason.DEADLINE, "nothing after the request", slow=True),
    Fault("html", 12, Reason.NOT_AN_IMAGE, "200 with an HTML page, named .jpg, with the type image/jpeg"),
    Fault("truncated_jpeg", 10, Reason.UNDECODABLE, "the first 60 % of a JPEG, as a whole body"),
    Fault("corrupt", 8, Reason.UNDECODABLE, "a JPEG whose first 600 bytes after the signature are noise"),
    Fault("oversized_announced", 5, Reason.TOO_LARGE, "Content-Length of 64 MB"),
    Fault("oversized_chunked", 4, Reason.TOO_LARGE, "16 MB in chunks, unannounced"),
    Fault("bomb", 4, Reason.TOO_MANY_PIXELS, "a PNG of 30,000 x 30,000 pixels in 170 KB"),
    Fault("one_pixel", 8, Reason.IMAGE_TOO_SMALL, "a GIF of 1 x 1 pixel"),
    Fault("sliver", 4, Reason.IMAGE_TOO_SMALL, "a PNG of 4,000 x 2 pixels"),
    Fault("svg", 5, Reason.UNSUPPORTED_FORMAT, "an SVG document"),
    Fault("tiff", 3, Reason.UNSUPPORTED_FORMAT, "a TIFF image"),
    Fault("robots_noai", 8, Reason.OPTED_OUT, "X-Robots-Tag: noai"),
    Fault("robots_noimageai", 6, Reason.OPTED_OUT, "X-Robots-Tag: noindex, noimageai"),
    Fault("robots_other_bot", 4, Reason.SUCCESS, "X-Robots-Tag: somebot: noai, a rule for another robot"),
    Fault("robots_expired", 4, Reason.OPTED_OUT, "X-Robots-Tag: unavailable_after: 25 Jun 2010 15:00:00 GMT"),
    Fault("robots_until", 3, Reason.SUCCESS, "X-Robots-Tag: unavailable_after: 25 Jun 2099 15:00:00 GMT"),
    Fault("tdm_reserved", 6, Reason.OPTED_OUT, "TDM-Reservation: 1"),
    Fault("short_body", 6, Reason.SHORT_BODY, "half of the Content-Length, then the end"),
    Fault("reset", 6, Reason.CONNECTION_RESET, "a TCP reset instead of an answer"),
    Fault("reset_mid_body", 4, Reason.CONNECTION_RESET, "a TCP reset after half of the body"),
    Fault(
        "not_tls",
        3,
        Reason.TLS_FAILURE,
        "plain HTTP on an https URL",
        url="https://photos-{host}.test/tls/{index}.jpg",
    ),
    Fault(
        "no_such_host",
        8,
        Reason.DNS_FAILURE,
        "a host name that DNS cannot resolve",
        url="http://gone.invalid/{index}.jpg",
    ),
    Fault("file_url", 4, Reason.UNSUPPORTED_SCHEME, "a file: URL", url="file:///etc/passwd?{index}"),
    Fault("ftp_url", 4, Reason.UNSUPPORTED_SCHEME, "an ftp: URL", url="ftp://photos-{host}.test/{index}.jpg"),
    Fault(
        "data_url",
        2,
        Reason.UNSUPPORTED_SCHEME,
        "a data: URL",
        url="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=#{index}",
    ),
    Fault("loopback", 4, Reason.BLOCKED_ADDRESS, "the machine itself", url="http://127.0.0.1/{index}.jpg"),
    Fault(
        "loopback_port", 4, Reason.BLOCKED_ADDRESS, "the ssh port of the machine", url="http://127.0.0.1:22/{index}.jpg"
    ),
    Fault(
        "loopback_decimal", 3, Reason.BLOCKED_ADDRESS, "127.0.0.1 as one number", url="http://2130706433/{index}.jpg"
    ),
    Fault("loopback_v6", 3, Reason.BLOCKED_ADDRESS, "the machine itself, by IPv6", url="http://[::1]/{index}.jpg"),
    Fault(
        "link_local",
        4,
        Reason.BLOCKED_ADDRESS,
        "a cloud's metadata service",
        url="http://169.254.169.254/latest/{index}",
    ),
)

FAULT_BY_KIND = {fault.kind: fault for fault in FAULTS}
