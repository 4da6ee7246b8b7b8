"""Local failures while the sample's images are fetched: what is committed then, and after a second run.

    python bench/sample_faults.py [CASE ...]          undisturbed first, then each case; default: all

The cases run `laion-assets materialize image_shards` or the same build on the sample's 5,280 rows: the web site killed
when 20, 50 and 80 % of the shards are committed, no resolver, a captive portal, no CA, a machine with busy processes
on all cores. A shard is wrong if it is committed with different bytes than in the undisturbed run. Prints a table and a
JSON object as the last line. Ends with status 1 if a shard is wrong or a second run produces other bytes.
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

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import compute_uid, rows_digest
from laion_assets.errors import LocalFailureError
from laion_assets.sample.crawl import crawl_rows
from laion_assets.sample.pages import HOSTS, host_name
from laion_assets.sample.running import running_site
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts, compute_sha256
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
class Result:
    """The result of a case: exit status (1: refused), seconds, shards committed and wrong, and after a second run."""

    status: int
    seconds: float
    committed: int
    wrong: int
    refused: int
    message: str
    again_status: int = 0
    again_equal: int = 0


def commit_sample(root: Path, scheme: str = "http") -> Dataset:
    """Commit the sample's rows, sorted by uid, and return its dataset."""
    dataset = replace(SAMPLE, root=str(root))
    layout = dataset.layout
    rows = sorted(((page.url.replace("http://photos", f"{scheme}://photos"), page.caption) for page in crawl_rows()),
                  key=lambda row: compute_uid(*row))  # fmt: skip
    for parquet in range(layout.parquet_files):
        ours = [row for row in rows if layout.parquet_of_uid(compute_uid(*row)) == parquet]
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


def hash_committed(dataset: Dataset) -> dict[str, str]:
    """Return the sha256 of tar and parquet of each committed shard."""
    root = Store.of(dataset).local_root
    assert root is not None
    found = {}
    for manifest in sorted((root / "manifests/image_shards").glob("*.json")):
        for suffix in (".tar", ".parquet"):
            with (root / "image_shards" / f"{manifest.stem}{suffix}").open("rb") as file:
                found[f"{manifest.stem}{suffix}"] = compute_sha256(file)
    return found


def different_rows(dataset: Dataset, undisturbed: Dataset) -> Iterator[str]:
    """Yield the rows of committed shards whose outcome differs from the undisturbed run."""
    ours, theirs = (Store.of(one).local_root for one in (dataset, undisturbed))
    assert ours is not None
    assert theirs is not None
    for path in sorted((ours / "image_shards").glob("*.parquet")):
        tables = [pq.read_table(root / "image_shards" / path.name).to_pylist() for root in (ours, theirs)]
        for mine, other in zip(*tables, strict=True):
            if mine != other:
                yield f"    {path.stem} {mine['url']}: {mine['error_message']} (undisturbed: {other['error_message']})"


@contextlib.contextmanager
def running_command(dataset: Dataset) -> Iterator[subprocess.Popen[str]]:
    """Start `laion-assets materialize image_shards` for the sample at this root."""
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
    """Run the command. Kill its web site when the share `kill_site_at` of the shards is committed."""
    with running_command(dataset) as process:
        output: list[str] = []
        reader = threading.Thread(target=lambda: output.extend(process.stderr or ()))
        reader.start()
        ends = time.monotonic() + LIMIT_S
        while process.poll() is None and time.monotonic() < ends:
            if kill_site_at is not None and len(hash_committed(dataset)) / 2 >= kill_site_at * SHARDS:
                for child in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        if "laion_assets.sample.site" in child.cmdline():
                            child.kill()
                            kill_site_at = None
            time.sleep(0.1)
        if process.poll() is None:
            process.kill()
        reader.join(10)
        return process.wait(), "".join(output).strip().splitlines()[-1][:400] if output else ""


def build(dataset: Dataset) -> tuple[int, str]:
    """Run the same build without Dagster."""
    try:
        build_image_shards(dataset, range(SHARDS), lambda line: None)
    except LocalFailureError as error:
        return 1, str(error)
    return 0, ""


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """Run busy processes, several per core."""
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
    """Run a server on loopback that handles each connection in its own thread. Yields its port."""
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
    """Redirect to the login page, which is HTML."""
    request = sock.recv(65_536)
    if b"Host: login." in request:
        page = b"<html>Please log in.</html>"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n"
        sock.sendall(head % len(page) + page)
    else:
        sock.sendall(b"HTTP/1.1 302 Result\r\nLocation: http://login.portal.test/\r\nContent-Length: 0\r\n\r\n")


def tls_in_front_of(port: int, context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Return a TLS proxy of the sample's site: one request per connection."""

    def talk(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            request = secure.recv(65_536).replace(b"Connection: keep-alive", b"Connection: close")
            with socket.create_connection(("127.0.0.1", port), 60) as site:
                site.sendall(request)
                while piece := site.recv(65_536):
                    secure.sendall(piece)

    return talk


def check_committed(
    case: str, status: int, output: str, seconds: float, dataset: Dataset, wanted: dict[str, str]
) -> Result:
    """Compare the committed shards with the undisturbed run, whose own `wanted` is empty."""
    found = hash_committed(dataset)
    wanted = wanted or found
    wrong = {name.partition(".")[0] for name, digest in found.items() if wanted.get(name) != digest}
    refused = len(Store.of(dataset).names("local_failures/image_shards"))
    print(
        f"{case:<22}{status:>7}{seconds:>8.0f} s{len(found) // 2:>11}{len(wrong):>7}{refused:>9}   {output}", flush=True
    )
    return Result(status, round(seconds, 1), len(found) // 2, len(wrong), refused, output)


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"cases from {', '.join(CASES)}; default: all".replace("%", "%%")
    )
    cases = parser.parse_args().cases or list(CASES)
    if unknown := set(cases) - set(CASES):
        parser.error(f"Unknown case {', '.join(sorted(unknown))}. Choose from {', '.join(CASES)}.")
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="sample-faults-") as name:
        top = Path(name)

        def measure(case: str, dataset: Dataset, run: Callable[[], tuple[int, str]], wanted: dict[str, str]) -> Result:
            started = time.monotonic()
            status, output = run()
            return check_committed(case, status, output, time.monotonic() - started, dataset, wanted)

        def second(found: Result, dataset: Dataset, run: Callable[[], tuple[int, str]], wanted: dict[str, str]) -> None:
            found.again_status, output = run()
            left = hash_committed(dataset)
            found.again_equal = sum(left.get(name) == digest for name, digest in wanted.items()) // 2
            print(
                f"{'  run again':<22}{found.again_status:>7}{'':>10}{found.again_equal:>11} equal  {output}", flush=True
            )
            if not dataset.resolve:
                print("\n".join(different_rows(dataset, base)), flush=True)

        print(f"{'case':<22}{'status':>7}{'time':>10}{'committed':>11}{'wrong':>7}{'refused':>9}   message")
        base = commit_sample(top / "undisturbed/data")
        results["undisturbed"] = measure("undisturbed", base, lambda: run_command(base), {})
        wanted = hash_committed(base)
        for case in cases:
            dataset = commit_sample(top / case.replace(" ", "-").replace("%", "percent") / "data")
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


def _without_ca(top: Path, measure: Callable[..., Result], second: Callable[..., None]) -> Result:
    """Run with https rows: first with the test CA, then without, then with it again."""
    certificate, key = top / "cert.pem", top / "key.pem"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    request += ["-days", "2", "-subj", "/CN=photos.test"]
    request += ["-addext", "subjectAltName=" + ",".join(f"DNS:{host_name(number)}" for number in range(HOSTS))]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running_site() as site, listener(tls_in_front_of(site.port, context)) as port:
        resolve = {"photos-*.test": f"127.0.0.1:{port}", **site.resolve}
        base, dataset = (
            commit_sample(top / part / "data", "https").with_resolve(resolve) for part in ("https", "no-ca")
        )
        try:
            os.environ["SSL_CERT_FILE"] = str(certificate)
            build(base)
            wanted = hash_committed(base)
            del os.environ["SSL_CERT_FILE"]
            found = measure("no CA", dataset, lambda: build(dataset), wanted)
            os.environ["SSL_CERT_FILE"] = str(certificate)
            second(found, dataset, lambda: build(dataset), wanted)
        finally:
            os.environ.pop("SSL_CERT_FILE", None)
    return found


if __name__ == "__main__":
    main()
