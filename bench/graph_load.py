"""The load time of a code location: from the start of its code server until its repository has been received."""

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path


def load_seconds(location: str) -> float:
    """Return the seconds from the start of `dagster api grpc` until the location's repository has been received.

    Raises RuntimeError if the server ends.
    """
    from dagster._core.remote_origin import (
        RegisteredCodeLocationOrigin,
        RemoteRepositoryOrigin,
    )
    from dagster._grpc.client import DagsterGrpcClient

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dagster = Path(sys.executable).with_name("dagster")
    command = [dagster, "api", "grpc", "-m", "laion_assets.definitions", "-a", location]
    started = time.monotonic()
    server = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        client = DagsterGrpcClient(port=port, host="127.0.0.1")
        while True:
            if server.poll() is not None:
                raise RuntimeError(f"the code server of {location} ended with {server.returncode}")
            with contextlib.suppress(Exception):
                client.ping("")
                break
            time.sleep(0.02)
        origin = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__")
        client.external_repository(origin)
        return time.monotonic() - started
    finally:
        server.terminate()
        server.wait(20)
