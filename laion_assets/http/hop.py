"""One request of a fetch: the first URL's, or a redirect's."""

from dataclasses import dataclass


@dataclass(slots=True)
class Hop:
    """One request: its URL, the endpoint that was connected to, the status of the response.

    `reused` tells whether a kept connection was used. Times are in seconds, None for steps that did not happen:
    `dns_s` the DNS lookup and address check, `waited_s` the wait for a slot of the host, `connect_s`, `tls_s`,
    `first_byte_s` from sending the request to the first byte, `body_s`.
    """

    url: str
    address: str | None = None
    status: int | None = None
    reused: bool = False
    dns_s: float | None = None
    waited_s: float | None = None
    connect_s: float | None = None
    tls_s: float | None = None
    first_byte_s: float | None = None
    body_s: float | None = None
