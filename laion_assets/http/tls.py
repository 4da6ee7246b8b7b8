"""TLS for every fetch: one context per process, certificates and host names always verified, sessions resumed."""

import functools
import socket
import ssl
import threading
from collections import OrderedDict

from laion_assets.http.clock import Clock
from laion_assets.http.urls.host_overrides import Endpoint
from laion_assets.reasons import Reason, Rejection

MAX_SESSIONS = 512


_context_lock = threading.Lock()


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS context of this process. It verifies certificates and host names, and allows TLS 1.2 and later.

    Creating a context takes 30 ms (it parses the CAs), so all threads share one. A session can only be resumed in the
    context in which it started. SSL_CERT_FILE names other CAs, as for all of OpenSSL.
    """
    with _context_lock:
        return _create_context(ca_file)


@functools.cache
def _create_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsSessions:
    """The last TLS session of each (host, endpoint). The least recently used is dropped first. Thread-safe.

    A resumed session skips the certificate, which was verified for the same host when the session started.
    """

    def __init__(self, max_sessions: int = MAX_SESSIONS) -> None:
        self._max_sessions = max_sessions
        self._lock = threading.Lock()
        self._sessions: OrderedDict[tuple[str, Endpoint], ssl.SSLSession] = OrderedDict()

    def take(self, host: str, endpoint: Endpoint) -> ssl.SSLSession | None:
        """Remove and return a session to resume, if any. TLS 1.3 sessions are for one use (RFC 8446, C.4)."""
        with self._lock:
            return self._sessions.pop((host, endpoint), None)

    def keep(self, host: str, endpoint: Endpoint, sock: ssl.SSLSocket) -> None:
        """Keep the session of a connection that is about to be closed."""
        session = sock.session
        if session is None or not session.has_ticket:
            return
        with self._lock:
            self._sessions[(host, endpoint)] = session
            while len(self._sessions) > self._max_sessions:
                self._sessions.popitem(last=False)


def wrap_tls(
    sock: socket.socket, host: str, clock: Clock, ca_file: str | None, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """Start TLS on a connected socket for this host name. Raises Rejection `tls_failure`, `deadline`; OSError."""
    sock.settimeout(clock.start_wait())
    try:
        return tls_context(ca_file).wrap_socket(sock, server_hostname=host.removesuffix("."), session=session)
    except TimeoutError as error:
        raise clock.timeout_rejection() from error
    except ssl.SSLCertVerificationError as error:
        raise Rejection(Reason.TLS_FAILURE, error.verify_message or "the certificate was not verified") from error
    except (ssl.SSLError, ValueError) as error:
        raise Rejection(Reason.TLS_FAILURE, getattr(error, "reason", None) or "the handshake failed") from error
