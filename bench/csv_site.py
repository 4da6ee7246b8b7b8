"""A tree of CSV files behind a web server on loopback, and its access log."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

SMALL_BYTES = (4_000, 40_000)
FOLDERS = 10
_CONF = """
{user} daemon off; worker_processes 2; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  log_format bench '$connection $status $body_bytes_sent $uri $http_range';
  access_log {folder}/access.log bench;
  sendfile on; tcp_nopush on; keepalive_requests 1000000; autoindex on;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{
    listen 127.0.0.1:{port} backlog=1024; root {folder}/site;
    location /0-large/ {{ limit_rate {rate}; }}
  }}
}}
"""
_USER = "user root;" if os.geteuid() == 0 else ""
"""By default, nginx started by root runs its workers as another user, who cannot read a temporary folder."""


@dataclass(frozen=True)
class Line:
    """One response of the server."""

    connection: str
    status: int
    sent: int
    path: str
    range: str


class CsvTree:
    """A tree of files. `files` has the size in bytes of each file, by path."""

    def __init__(self, folder: Path, small: int, large: int, large_bytes: int) -> None:
        self.folder = folder
        self.files: dict[str, int] = {}
        noise = random.Random(7)
        block = noise.randbytes(1 << 20)
        for number in range(small):
            size = noise.randint(*SMALL_BYTES)
            start = noise.randint(0, len(block) - size)
            self._write(f"2021-{number % FOLDERS:02d}/{number:06d}.csv", [block[start : start + size]])
        for number in range(large):
            pieces = [b"%d" % number + block] * (large_bytes // (1 << 20))
            self._write(f"0-large/{number}.csv", pieces)

    def _write(self, path: str, pieces: list[bytes]) -> None:
        target = self.folder / "site" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            file.writelines(pieces)
        self.files[path] = target.stat().st_size

    @property
    def bytes(self) -> int:
        """Size of all files in bytes."""
        return sum(self.files.values())

    def log(self, skip: int = 0) -> list[Line]:
        """Return the responses so far, without the first `skip`."""
        found = []
        for line in (self.folder / "access.log").read_text(encoding="utf-8").splitlines()[skip:]:
            connection, status, sent, path, asked = line.split(" ", 4)
            found.append(Line(connection, int(status), int(sent), unquote(path).lstrip("/"), asked))
        return found

    @contextlib.contextmanager
    def serve(self, rate: int = 0) -> Iterator[str]:
        """Run a server and yield the URL of the tree. `rate` limits each download of a large file, in bytes/s."""
        port = _free_port()
        if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
            conf = self.folder / "nginx.conf"
            conf.write_text(_CONF.format(user=_USER, folder=self.folder, port=port, rate=rate), encoding="utf-8")
            program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
            command = [str(program), "-p", str(self.folder), "-c", str(conf), "-e", str(self.folder / "error.log")]
        else:
            raise SystemExit("nginx is missing: run `make bench-csv` as root, or sudo apt-get install nginx-light.")
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait_for(port, server)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    sys.exit(f"nginx did not start on port {port}.")
