"""The part of the test that runs in the namespace: servers, stages one by one, and what each asked and used.

`python -m laion_assets_tests.hostile.inside FOLDER healthy|hostile` writes `FOLDER/report.json`.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from laion_assets_tests.hostile.crawl import hostile_crawl
from laion_assets_tests.hostile.dns_server import DnsServer
from laion_assets_tests.hostile.namespace import NAME_SERVER, asked, forget, prepare
from laion_assets_tests.hostile.stage import HEALTHY
from laion_assets_tests.hostile.web import serve
from laion_assets_tests.http.test_tls import make

STAGES = ("raw_csv", "dedup_parquet", "image_shards")
METADATA = "169.254.169.254"
LIMIT_S = 300.0
"""Longest time of a stage; a stage that takes longer is ended, and the test fails."""
_EVERY_S = 0.2


def main(folder: Path, hosts: str) -> None:
    """Prepare, serve, run the stages, report."""
    prepare(folder)
    crawl = hostile_crawl(hosts == HEALTHY)
    trusted, other = (make(folder, name, others=sorted(crawl.tls_hosts)) for name in ("trusted", "other"))
    serve(crawl, trusted, other)
    DnsServer(NAME_SERVER)
    environment = {**os.environ, "SSL_CERT_FILE": str(trusted), "TMPDIR": str(folder / "temporary")}
    report: dict[str, Any] = {"control": _control()}
    for stage in STAGES:
        forget()
        report[stage] = _measure([stage, hosts], folder, environment) | {"asked": sorted(asked())}
        (folder / "report.json").write_text(json.dumps(report))
        if report[stage]["status"] != 0:
            break


def _control() -> list[tuple[str, str, int]]:
    """What the watch notes of connections that must not be, so that an empty list means something."""
    for family, address in ((socket.AF_INET, METADATA), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as sock:
            sock.settimeout(5)
            sock.connect((address, 80))
    with socket.socket(socket.AF_INET) as sock, contextlib.suppress(ConnectionRefusedError):
        sock.connect(("10.0.0.1", 22))
    return sorted(asked())


def _measure(stage: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a stage to its end: its status, seconds, the most memory (MiB) of its processes and disk (bytes) it used."""
    tree_mib, process_mib, disk, started = 0.0, 0.0, 0, time.monotonic()
    command = [sys.executable, "-m", "laion_assets_tests.hostile.stage", str(folder), *stage]
    with (
        open(folder / f"{stage[0]}.log", "wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        root = psutil.Process(process.pid)
        while process.poll() is None:
            together = 0.0
            with contextlib.suppress(psutil.Error):
                for each in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        resident = each.memory_info().rss / 2**20
                        together += resident
                        if each.name() != "java":
                            process_mib = max(process_mib, resident)
            tree_mib, disk = max(tree_mib, together), max(disk, _size(folder))
            if time.monotonic() - started > LIMIT_S:
                for each in [*root.children(recursive=True), root]:
                    with contextlib.suppress(psutil.Error):
                        each.kill()
            time.sleep(_EVERY_S)
    return {
        "status": process.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "tree_mib": round(tree_mib),
        "process_mib": round(process_mib),
        "disk": disk,
    }


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
