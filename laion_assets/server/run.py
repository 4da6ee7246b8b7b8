"""Run the search service until Ctrl-C."""

import logging
import resource
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.plain_text import one_line
from laion_assets.server.app import build_app
from laion_assets.server.protection.access import is_allowed_host
from laion_assets.server.protection.connection import limited_connections
from laion_assets.server.service import Service

if TYPE_CHECKING:
    import uvicorn

MIN_TOKEN_CHARS = 16
MAX_OPEN_FILES = 65_536


def serve(datasets: Sequence[Dataset], host: str, port: int, log: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Raises the errors of `Service`, SettingError, and OSError for a port in use."""
    write_log()
    allow_open_files()
    with bind(host, port) as listener:
        token = read_token(datasets[0].search.token_file)
        service = Service(datasets)
        where = f"[{host}]" if ":" in host else host
        log(f"serving {', '.join(service.searches)} at http://{where}:{listener.getsockname()[1]} (Ctrl-C ends)")
        if not token and not is_allowed_host(host, ()):  # not loopback
            log(f"everyone who reaches {host} can search: set search.token_file, or put a proxy with a log-in in front")
        build_server(service, host, token).run([listener])
        log("stopped")


def allow_open_files() -> None:
    """Raise the limit of open files as far as allowed: connections and metadata files may need more than 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class PlainFormatter(logging.Formatter):
    """Formats records of the log; text from strangers in a message cannot add lines or move a terminal's cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """Return time, level and message as one line, then the traceback if there is one."""
        line = one_line(f"{self.formatTime(record)} {record.levelname.lower()} {record.getMessage()}")
        if record.exc_info:
            traceback = self.formatException(record.exc_info).split("\n")
            return "\n".join([line, *map(one_line, traceback)])
        return line


def write_log() -> None:
    """Write the log to stderr: warnings, new indices and, with `search.log_queries`, texts of queries."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    logging.getLogger("laion_assets.server").setLevel(logging.INFO)
    logging.getLogger("laion_assets.search").setLevel(logging.INFO)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, before anything slow is loaded. Raises SettingError if the port is in use."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        raise SettingError(f"Cannot listen on {host} port {port}: {error.strerror}. Choose another --port.") from error


def build_server(service: Service, host: str, token: str = "") -> "uvicorn.Server":
    """Return a uvicorn server of the service with all limits. Run it on a socket of `bind`."""
    import uvicorn

    class Server(uvicorn.Server):
        """A server that returns from `run` after a signal. uvicorn would raise the signal again."""

        def handle_exit(self, sig: int, frame: "FrameType | None") -> None:
            """Finish the requests in progress; end at once at the second signal."""
            self.force_exit = self.should_exit
            self.should_exit = True

    settings = service.settings
    config = uvicorn.Config(
        build_app(service, [host], token),
        http=limited_connections(settings.idle_s, settings.deadline_s, settings.max_connections),
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=max(1, round(settings.idle_s)),
        timeout_graceful_shutdown=5,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return Server(config)


def read_token(path: str) -> str:
    """Read the token of `search.token_file`, empty without one. Raises SettingError."""
    if not path:
        return ""
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"search.token_file {path} cannot be read: {error}.") from error
    if len(token) < MIN_TOKEN_CHARS or not token.isprintable() or " " in token:
        raise SettingError(
            f"search.token_file {path} must hold one token of at least {MIN_TOKEN_CHARS} printable characters. "
            "Make one with: openssl rand -hex 32."
        )
    return token
