"""A real Apache on loopback with its own configuration, for tests of its directory pages."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MODULES = Path("/usr/lib/apache2/modules")
"""Folder of the modules in Debian's package."""
_STARTS_S = 20.0
_LONG_AGO = 1_630_000_000
_CONFIGURATION = """
ServerRoot {home}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {home}/pid
DefaultRuntimeDir {home}
ErrorLog {home}/error.log
Mutex pthread
User nobody
Group nogroup
StartServers 1
ThreadsPerChild 32
MaxRequestWorkers 32
DocumentRoot {home}/www
LogFormat "%>s %B %{{Range}}i %U" asked
CustomLog {home}/access.log asked
<Directory {home}/www>
  Require all granted
  Options Indexes
  IndexOptions {options}
</Directory>
<Location /crawl/slow/>
  SetOutputFilter RATE_LIMIT
  SetEnv rate-limit {slow_kib_a_s}
</Location>
"""


def apache_binary() -> str | None:
    """Return Apache's program, None if it is not installed (`make apache2` installs it)."""
    found = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
    return found if found and MODULES.is_dir() else None


@dataclass(frozen=True)
class Asked:
    """A line of the access log: status, bytes of the body that were sent, the Range header and the path."""

    status: int
    sent: int
    range: str | None
    path: str


@dataclass(frozen=True)
class Apache:
    """`url` is that of the listing; `home` holds the configuration and the logs."""

    url: str
    home: Path

    def asked(self) -> list[Asked]:
        """Return the requests so far. A request is logged when it has ended."""
        lines = (self.home / "access.log").read_text().splitlines()
        parts = (line.split(" ", 3) for line in lines)
        return [
            Asked(int(status), int(sent), None if asked == "-" else asked, path) for status, sent, asked, path in parts
        ]


@contextlib.contextmanager
def running_apache(files: dict[str, bytes], options: str, slow_kib_a_s: int = 400) -> Iterator[Apache]:
    """Serve `files` below `/crawl/`, files in `slow/` at `slow_kib_a_s`, directory pages with these IndexOptions.

    Raises RuntimeError with the error log if Apache does not start.
    """
    binary = apache_binary()
    assert binary is not None
    with contextlib.ExitStack() as stack:
        # Not pytest's folder, which only its owner can read: Apache's workers run as nobody.
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apache-")))
        home.chmod(0o755)
        for path, content in files.items():
            file = home / "www" / "crawl" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            # A recent file gets a weak ETag, which cannot resume a download (RFC 9110).
            os.utime(file, (_LONG_AGO, _LONG_AGO))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        loaded = "".join(
            f"LoadModule {name}_module {MODULES}/mod_{name}.so\n"
            for name in ("mpm_event", "authz_core", "dir", "autoindex", "mime", "env", "ratelimit")
        )
        settings = _CONFIGURATION.format(home=home, port=port, options=options, slow_kib_a_s=slow_kib_a_s)
        (home / "httpd.conf").write_text(loaded + "TypesConfig /dev/null\n" + settings)
        process = subprocess.Popen([binary, "-f", str(home / "httpd.conf"), "-D", "FOREGROUND"], cwd=home)
        stack.callback(_end, process)
        deadline = time.monotonic() + _STARTS_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                log = home / "error.log"
                raise RuntimeError(f"Apache does not start: {log.read_text() if log.exists() else process.returncode}")
            time.sleep(0.05)
        yield Apache(f"http://127.0.0.1:{port}/crawl/", home)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
