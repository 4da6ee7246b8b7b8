"""A real PostgreSQL on loopback for tests. Clusters of the machine are not touched."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2

USER = "dagster"
_INSTALLED = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Database:
    """A database of a running server, with the environment for `deploy/dagster.yaml`."""

    port: int
    password: str
    name: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DAGSTER_POSTGRES_HOST": "127.0.0.1",
            "DAGSTER_POSTGRES_PORT": str(self.port),
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": self.password,
            "DAGSTER_POSTGRES_DB": self.name,
        }

    def execute(self, statement: str) -> list[tuple]:
        """Run a statement outside of transactions and return its rows, if any."""
        with contextlib.closing(
            psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname=self.name)
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def another(self) -> "Database":
        """Create an empty database on the same server."""
        name = f"dagster_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return Database(self.port, self.password, name)


def program(name: str) -> str:
    """Return the path of a program of the newest installed PostgreSQL. Debian does not add them to PATH."""
    versions = sorted(_INSTALLED.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    found = versions[-1] if versions else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} was not found below {_INSTALLED} or in PATH. Run `make test-postgres`.")
    return str(found)


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[Database]:
    """Start a server with one database on a free port. Without `durable` it does not wait for the disk."""
    account = pwd.getpwnam("nobody") if os.getuid() == 0 else None  # PostgreSQL refuses to run as root.
    password = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="laion-assets-postgres-") as name:
        folder = Path(name)
        (folder / "password").write_text(password)
        if account is not None:
            for path in (folder, folder / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        as_whom = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
        subprocess.run(
            [
                *(program("initdb"), "--pgdata", folder / "data", "--username", USER, "--encoding", "UTF8"),
                *("--auth", "scram-sha-256", "--pwfile", folder / "password", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **as_whom,
        )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder}
        options |= {} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [
                    *(program("postgres"), "-D", folder / "data"),
                    *(word for option, value in options.items() for word in ("-c", f"{option}={value}")),
                ],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                **as_whom,
            )
        try:
            asked = [program("pg_isready"), "--host", "127.0.0.1", "--port", str(port), "--timeout", "1"]
            while subprocess.run(asked, capture_output=True).returncode != 0:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield Database(port, password, "postgres").another()
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown: does not wait for clients
            server.wait(30)
