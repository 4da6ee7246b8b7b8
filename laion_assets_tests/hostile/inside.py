"""The part of the test inside the namespace: run the servers and each stage, and record contacts and resources.

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
from laion_assets_tests.hostile.namespace import NAME_SERVER, clear_contacts, list_contacts, prepare
from laion_assets_tests.hostile.stage import HEALTHY
from laion_assets_tests.hostile.web import serve
from laion_assets_tests.http.test_tls import make

STAGES = ("raw_csv", "dedup_parquet", "image_shards")
METADATA = "169.254.169.254"
LIMIT_S = 300.0
"""Time limit of a stage, in seconds. A stage that takes longer is killed, and the test fails."""
_EVERY_S = 0.2


def main(folder: Path, hosts: str) -> None:
    """Prepare the namespace, start the servers, run the stages and write the report."""
    prepare(folder)
    crawl = hostile_crawl(hosts == HEALTHY)
    trusted, other = (make(folder, name, others=sorted(crawl.tls_hosts)) for name in ("trusted", "other"))
    serve(crawl, trusted, other)
    DnsServer(NAME_SERVER)
    environment = {**os.environ, "SSL_CERT_FILE": str(trusted), "TMPDIR": str(folder / "temporary")}
    report: dict[str, Any] = {"control": _record_control()}
    for stage in STAGES:
        clear_contacts()
        report[stage] = _measure([stage, hosts], folder, environment) | {"asked": sorted(list_contacts())}
        (folder / "report.json").write_text(json.dumps(report))
        if report[stage]["status"] != 0:
            break


def _record_control() -> list[tuple[str, str, int]]:
    """Make forbidden connections and return what is recorded, to show that the record works."""
    for family, address in ((socket.AF_INET, METADATA), (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as sock:
            sock.settimeout(5)
            sock.connect((address, 80))
    with socket.socket(socket.AF_INET) as sock, contextlib.suppress(ConnectionRefusedError):
        sock.connect(("10.0.0.1", 22))
    return sorted(list_contacts())


def _measure(stage: list[str], folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a stage. Return its status, seconds, and the maximum memory (MiB) and disk (bytes) that it used."""
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
