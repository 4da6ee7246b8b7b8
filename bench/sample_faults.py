"""Local failures while the sample's images are fetched: what is committed meanwhile, and what a second run ends in.

    python bench/sample_faults.py [CASE ...]          undisturbed first, then each case; all if none is named

The cases run `laion-assets materialize image_shards` or the same build over the sample's 5,280 rows: the site killed
when 20, 50 and 80 % of the shards are committed, no resolver, a captive portal, no CA, a machine with busy processes
on all cores. A shard counts as wrong if it is committed with other bytes than the undisturbed one. Prints a table and a
JSON object as the last line; ends with status 1 where a shard is wrong or a second run does not end in the undisturbed
bytes.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from laion_assets.dataset.dataset import SAMPLE, Dataset
from laion_assets.dataset.identity import rows_digest, uid_of
from laion_assets.errors import LocalFailureError
from laion_assets.sample.crawl import crawl_rows
from laion_assets.sample.pages import HOSTS, host_name
from laion_assets.sample.running import running_site
from laion_assets.stages.handles import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts, sha256_of
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.columns import DEDUP_SCHEMA
from laion_assets_tests.stages.image_shards.shards import dedup_table

TOP = Path(__file__).parent.parent
CASES = ("killed at 20 %", "killed at 50 %", "killed at 80 %", "no resolver", "portal", "no CA", "busy")
SHARDS = SAMPLE.layout.shards
LIMIT_S = 900.0
BUSY_PER_CORE = 4


@dataclass
class Found:
    """What a case left: exit status (1: refused), seconds, shards committed and wrong, and after a second run."""

    status: int
    seconds: float
    committed: int
    wrong: int
    refused: int
    said: str
    again_status: int = 0
    again_equal: int = 0


def sample_at(root: Path, scheme: str = "http") -> Dataset:
    """The sample with its rows committed, in the order of their uids."""
    dataset = replace(SAMPLE, root=str(root))
    layout = dataset.layout
    rows = sorted(((page.url.replace("http://photos", f"{scheme}://photos"), page.caption) for page in crawl_rows()),
                  key=lambda row: uid_of(*row))  # fmt: skip
    for parquet in range(layout.parquet_files):
        ours = [row for row in rows if layout.parquet_of_uid(uid_of(*row)) == parquet]
        table, digests = dedup_table(ours), {}
        with open_transaction(Store.of(dataset), DEDUP_PARQUET, layout.parquet_key(parquet)) as transaction:
            shards = layout.shards_of_parquet(parquet)
            with pq.ParquetWriter(transaction.stage(DedupParquet.path(layout, parquet)), DEDUP_SCHEMA) as writer:
                for place, shard in enumerate(shards):
                    part = layout.rows_of_shard(place, len(shards), len(ours))
                    group = table.slice(part.start, len(part))
                    writer.write_table(group, row_group_size=len(part))
                    digests[layout.shard_key(shard)] = rows_digest(group)
            settings = settings_digest(dataset, DEDUP_PARQUET)
            transaction.commit(Counts(len(ours), len(ours)), settings=settings, inputs="", outputs=digests)
    return dataset


def committed(dataset: Dataset) -> dict[str, str]:
    """sha256 of tar and parquet of each committed shard."""
    root = Store.of(dataset).local_root
    assert root is not None
    found = {}
    for manifest in sorted((root / "manifests/image_shards").glob("*.json")):
        for suffix in (".tar", ".parquet"):
            with (root / "image_shards" / f"{manifest.stem}{suffix}").open("rb") as file:
                found[f"{manifest.stem}{suffix}"] = sha256_of(file)
    return found


def different_rows(dataset: Dataset, undisturbed: Dataset) -> Iterator[str]:
    """The rows of committed shards that ended otherwise than in the undisturbed run."""
    ours, theirs = (Store.of(one).local_root for one in (dataset, undisturbed))
    assert ours is not None
    assert theirs is not None
    for path in sorted((ours / "image_shards").glob("*.parquet")):
        tables = [pq.read_table(root / "image_shards" / path.name).to_pylist() for root in (ours, theirs)]
        for mine, other in zip(*tables, strict=True):
            if mine != other:
                yield f"    {path.stem} {mine['url']}: {mine['error_message']} (undisturbed: {other['error_message']})"


@contextlib.contextmanager
def command(dataset: Dataset) -> Iterator[subprocess.Popen[str]]:
    """`laion-assets materialize image_shards` over the sample at this root."""
    home = Path(dataset.root).parent
    (home / "dagster_home").mkdir(exist_ok=True)
    shutil.copy(TOP / "dagster_home/dagster.yaml", home / "dagster_home")
    environment = {**os.environ, "LAION_ASSETS_ROOT": dataset.root, "PYTHONPATH": str(TOP)}
    environment["DAGSTER_HOME"] = str(home / "dagster_home")
    program = [sys.executable, "-c", "from laion_assets.cli import main; main()", "materialize"]
    process = subprocess.Popen(
        [*program, "--dataset", "sample", "image_shards"],
        env=environment, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run_command(dataset: Dataset, kill_site_at: float | None = None) -> tuple[int, str]:
    """Run the command; once so many of the shards are committed its site is killed."""
    with command(dataset) as process:
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        reader.start()
        ends = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < ends:
            if kill_site_at is not None and len(committed(dataset)) / 2 >= kill_site_at * SHARDS:
                for child in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        if "laion_assets.sample.site" in child.cmdline():
                            child.kill()
                            kill_site_at = None
            time.sleep(0.1)
        if process.poll() is None:
            process.kill()
        reader.join(10)
        return process.wait(), "".join(said).strip().splitlines()[-1][:400] if said else ""


def build(dataset: Dataset) -> tuple[int, str]:
    """The same build without Dagster."""
    try:
        build_image_shards(dataset, range(SHARDS), lambda line: None)
    except LocalFailureError as error:
        return 1, str(error)
    return 0, ""


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Processes that compute, several a core."""
    count = BUSY_PER_CORE * (os.cpu_count() or 1)
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def listener(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback that talks to each connection in a thread of its own; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:

        def serve(sock: socket.socket) -> None:
            with contextlib.suppress(OSError, ssl.SSLError), sock:
                sock.settimeout(60)
                talk(sock)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def portal(sock: socket.socket) -> None:
    """A redirect to the login page, which is HTML."""
    request = sock.recv(65_536)
    if b"Host: login." in request:
        page = b"<html>Please log in.</html>"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
        sock.sendall(head % len(page) + page)
    else:
        sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://login.portal.test/\r\nContent-Length: 0\r\n\r\n")


def tls_in_front_of(port: int, context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """TLS of ours before the sample's site: one request a connection."""

    def talk(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            request = secure.recv(65_536).replace(b"Connection: keep-alive", b"Connection: close")
            with socket.create_connection(("127.0.0.1", port), 60) as site:
                site.sendall(request)
                while piece := site.recv(65_536):
                    secure.sendall(piece)

    return talk


def check_response(
    case: str, status: int, said: str, seconds: float, dataset: Dataset, wanted: dict[str, str]
) -> Found:
    """Compare what is committed with the undisturbed run."""
    found = committed(dataset)
    wrong = {name.partition(".")[0] for name, digest in found.items() if wanted.get(name) != digest}
    refused = len(Store.of(dataset).names("local_failures/image_shards"))
    print(
        f"{case:<22}{status:>7}{seconds:>8.0f} s{len(found) // 2:>11}{len(wrong):>7}{refused:>9}   {said}", flush=True
    )
    return Found(status, round(seconds, 1), len(found) // 2, len(wrong), refused, said)


def main() -> None:
    """Run the cases; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all by default".replace("%", "%%")
    )
    cases = parser.parse_args().cases or list(CASES)
    if unknown := set(cases) - set(CASES):
        parser.error(f"Unknown case {', '.join(sorted(unknown))}. Choose from {', '.join(CASES)}.")
    results: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(prefix="sample-faults-") as name:
        top = Path(name)

        def measure(case: str, dataset: Dataset, run: Callable[[], tuple[int, str]], wanted: dict[str, str]) -> Found:
            started = time.monotonic()
            status, said = run()
            return check_response(case, status, said, time.monotonic() - started, dataset, wanted)

        def second(found: Found, dataset: Dataset, run: Callable[[], tuple[int, str]], wanted: dict[str, str]) -> None:
            found.again_status, said = run()
            left = committed(dataset)
            found.again_equal = sum(left.get(name) == digest for name, digest in wanted.items()) // 2
            print(
                f"{'  run again':<22}{found.again_status:>7}{'':>10}{found.again_equal:>11} equal  {said}", flush=True
            )
            if not dataset.resolve:
                print("\n".join(different_rows(dataset, base)), flush=True)

        print(f"{'case':<22}{'status':>7}{'time':>10}{'committed':>11}{'wrong':>7}{'refused':>9}   message")
        base = sample_at(top / "undisturbed/data")
        results["undisturbed"] = measure("undisturbed", base, lambda: run_command(base), {})
        wanted = committed(base)
        results["undisturbed"].wrong = 0
        for case in cases:
            dataset = sample_at(top / case.replace(" ", "-").replace("%", "percent") / "data")
            if case.startswith("killed"):
                share = int(case.split()[2]) / 100
                found = measure(case, dataset, lambda d=dataset, s=share: run_command(d, s), wanted)  # type: ignore[misc]
                second(found, dataset, lambda d=dataset: run_command(d), wanted)  # type: ignore[misc]
            elif case == "busy":
                with busy_machine():
                    found = measure(case, dataset, lambda d=dataset: run_command(d), wanted)  # type: ignore[misc]
                second(found, dataset, lambda d=dataset: run_command(d), wanted)  # type: ignore[misc]
            elif case == "no CA":
                found = _without_ca(top, measure, second)
            else:
                with contextlib.ExitStack() as stack:
                    resolve = {}
                    if case == "portal":
                        resolve = {"*": f"127.0.0.1:{stack.enter_context(listener(portal))}"}
                    found = measure(case, dataset, lambda d=dataset.with_resolve(resolve): build(d), wanted)  # type: ignore[misc]
                second(found, dataset, lambda d=dataset: run_command(d), wanted)  # type: ignore[misc]
            results[case] = found
    bad = [
        case
        for case, found in results.items()
        if found.wrong or (case != "undisturbed" and found.again_equal != SHARDS)
    ]
    print(
        json.dumps(
            {"bench": "sample_faults", "bad": bad, "cases": {name: asdict(one) for name, one in results.items()}}
        )
    )
    sys.exit(1 if bad else 0)


def _without_ca(top: Path, measure: Callable[..., Found], second: Callable[..., None]) -> Found:
    """https rows, first with the certificate of our server's CA, then without, then with it again."""
    certificate, key = top / "cert.pem", top / "key.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    request += ["-days", "2", "-subj", "/CN=photos.test"]
    request += ["-addext", "subjectAltName=" + ",".join(f"DNS:{host_name(number)}" for number in range(HOSTS))]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running_site() as site, listener(tls_in_front_of(site.port, context)) as port:
        resolve = {"photos-*.test": f"127.0.0.1:{port}", **site.resolve}
        base, dataset = (sample_at(top / part / "data", "https").with_resolve(resolve) for part in ("https", "no-ca"))
        try:
            os.environ["SSL_CERT_FILE"] = str(certificate)
            build(base)
            wanted = committed(base)
            del os.environ["SSL_CERT_FILE"]
            found = measure("no CA", dataset, lambda: build(dataset), wanted)
            os.environ["SSL_CERT_FILE"] = str(certificate)
            second(found, dataset, lambda: build(dataset), wanted)
        finally:
            os.environ.pop("SSL_CERT_FILE", None)
    return found


if __name__ == "__main__":
    main()
