"""Open a connection to a checked endpoint, and map errors of the operating system to rejections."""

import errno
import socket
import ssl
import time
from collections.abc import Sequence
from functools import partial
from typing import cast

from laion_assets.http.clock import Clock
from laion_assets.http.hop import Hop
from laion_assets.http.http_connection import HttpConnection
from laion_assets.http.tls import TlsSessions, wrap_tls
from laion_assets.http.urls.host_overrides import Endpoint
from laion_assets.http.urls.target import Target
from laion_assets.reasons import Reason, Rejection

_NO_ROUTE = {
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.EACCES,  # a firewall of this machine refuses the address
    errno.EPERM,
}
_LOCAL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC}


def connect(
    target: Target, endpoints: Sequence[Endpoint], clock: Clock, ca_file: str | None, sessions: TlsSessions, hop: Hop
) -> tuple[HttpConnection, Endpoint]:
    """Connect to the first endpoint that accepts, with TLS for https. Records the times in `hop`.

    Raises Rejection: `connect_failure`, `no_route`, `local_failure`, `deadline`, `tls_failure`.
    """
    started = time.monotonic()
    sock, endpoint = connect_socket(endpoints, clock)
    hop.address = str(endpoint)
    connected = time.monotonic()
    hop.connect_s = connected - started
    if target.scheme != "https":
        return HttpConnection(sock), endpoint
    try:
        secured = wrap_tls(sock, target.host, clock, ca_file, sessions.take(target.host, endpoint))
    except BaseException:
        sock.close()
        raise
    hop.tls_s = time.monotonic() - connected
    return HttpConnection(secured, partial(_keep_session, sessions, target.host, endpoint)), endpoint


def _keep_session(sessions: TlsSessions, host: str, endpoint: Endpoint, sock: socket.socket) -> None:
    sessions.keep(host, endpoint, cast(ssl.SSLSocket, sock))


def connect_socket(endpoints: Sequence[Endpoint], clock: Clock) -> tuple[socket.socket, Endpoint]:
    """Return a socket connected to the first endpoint that answers. Raises Rejection."""
    failure: Rejection | None = None
    for endpoint in endpoints:
        family = socket.AF_INET6 if endpoint.address.version == 6 else socket.AF_INET
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(clock.start_wait())
                sock.connect((str(endpoint.address), endpoint.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock, endpoint
            except BaseException:
                sock.close()
                raise
        except TimeoutError:
            failure = failure or clock.timeout_rejection()
        except OSError as error:
            failure = failure or socket_rejection(error, connecting=True)
    raise failure or Rejection(Reason.DNS_FAILURE, "the host has no address")


def socket_rejection(error: OSError, connecting: bool = False) -> Rejection:
    """Return the rejection for an error of a socket: a failure of the site, the network or this machine."""
    name = errno.errorcode.get(error.errno or 0, type(error).__name__)
    if error.errno in _NO_ROUTE:
        return Rejection(Reason.NO_ROUTE, name)
    if error.errno in _LOCAL:
        return Rejection(Reason.LOCAL_FAILURE, name)
    if connecting and error.errno != errno.ECONNRESET:
        return Rejection(Reason.CONNECT_FAILURE, name)
    return Rejection(Reason.CONNECTION_RESET, "the connection was reset")
