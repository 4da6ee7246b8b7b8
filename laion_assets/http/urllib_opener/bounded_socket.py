"""A connected socket for `http.client` whose every operation ends within the clock of its URL."""

import io
import socket
import ssl
import time
from typing import TYPE_CHECKING

from laion_assets.http.clock import too_slow
from laion_assets.http.connecting import socket_rejection
from laion_assets.http.http_connection import Rate
from laion_assets.http.urllib_opener.visit import Visit
from laion_assets.reasons import Reason, Rejection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class BoundedSocket:
    """The methods of a socket that `http.client` uses. Raises Rejection instead of OSError."""

    def __init__(self, sock: socket.socket, visit: Visit, rate: Rate) -> None:
        self._sock = sock
        self._visit = visit
        self._rate = rate

    def sendall(self, data: bytes) -> None:
        """Send all of `data`. Raises Rejection."""
        self._sock.settimeout(self._visit.clock.start_wait())
        try:
            self._sock.sendall(data)
        except TimeoutError as error:
            raise self._visit.clock.timeout_rejection() from error
        except OSError as error:
            raise socket_rejection(error) from error

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader. It keeps the socket open after `close`, as that of a plain socket does."""
        return io.BufferedReader(_BoundedReader(self._sock, self._visit, self._rate))

    def close(self) -> None:
        """Close the socket once its readers are closed."""
        self._sock.close()


class _BoundedReader(io.RawIOBase):
    def __init__(self, sock: socket.socket, visit: Visit, rate: Rate) -> None:
        self._sock = sock
        self._visit = visit
        self._rate = rate
        self._open = sock.makefile("rb", buffering=0)  # the socket counts its files and closes after the last one
        self._first_byte_at: float | None = None
        self._lost_before_s = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        received = self._receive(buffer)
        visit, now = self._visit, time.monotonic()
        visit.wire_bytes += received
        visit.ended = now
        lost_s = visit.clock.busy.lost_s
        if self._first_byte_at is None:
            self._first_byte_at, self._lost_before_s = now, lost_s
        elif self._rate.too_slow(visit.wire_bytes, now - self._first_byte_at - (lost_s - self._lost_before_s)):
            raise too_slow()
        return received

    def close(self) -> None:
        if not self.closed:
            self._open.close()
        super().close()

    def _receive(self, buffer: "WriteableBuffer") -> int:
        """Wait longer after a timeout of a machine that was too busy, until the deadline."""
        clock = self._visit.clock
        while True:
            self._sock.settimeout(clock.start_wait())
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError as error:
                rejection = clock.timeout_rejection()
                if rejection.reason is not Reason.LOCAL_FAILURE:
                    raise rejection from error
            except ssl.SSLError as error:
                raise Rejection(Reason.CONNECTION_RESET, "TLS failed inside the response") from error
            except OSError as error:
                raise socket_rejection(error) from error
