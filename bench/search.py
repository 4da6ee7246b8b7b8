"""Benchmark search: this project's service against `clip-retrieval back`, over the same indices.

    python bench/search.py [--dataset sample] [--rounds 3] [--seconds 8] [--load-seconds 60]

Both serve the committed indices of a dataset (`make demo` builds those of the sample) with the same model, and get the
same requests on loopback: clip-retrieval's `/knn-service` with its client's defaults (40 results, deduplicated), by an
embedding and by a text. No embedding and no text repeats within a measurement. Rounds alternate between the two.
Then 50 clients search for `--load-seconds`, on ours alone, through `/api/search` with a page of 50 results.

The last line is a JSON object: requests/s with embeddings as `ours`, `peer` and `ratio` (medians of the rounds), p50
and p99 of ours in milliseconds for 1 client, the same figures for texts in `text`, and those of the 50 clients in
`load`. The program ends with status 1 if a request fails, or if the two do not return the same rows.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

CLIENT_DEFAULTS = {
    "deduplicate": True,
    "use_safety_model": True,
    "use_violence_detector": True,
    "use_mclip": False,
    "aesthetic_score": 9,
    "aesthetic_weight": 0.5,
    "modality": "image",
    "num_images": 40,
    "num_result_ids": 40,
}
"""The fields that clip-retrieval's ClipClient sends."""
START_S = 180


@dataclass
class Measured:
    """Latencies in seconds of a measurement that took `seconds`, and the number of failed requests."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """A percentile in milliseconds."""
        return round(float(np.percentile(self.latencies, share)) * 1_000, 2)


def main() -> None:
    """Measure both and print the table and the JSON line."""
    asked = _arguments()
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_service("ours", asked.dataset))
        peer = stack.enter_context(_service("peer", asked.dataset))
        _require_same_rows(asked, ours, peer)
        figures: dict[tuple[str, str, int], list[Measured]] = {}
        bodies = {"embedding": _embeddings(asked), "text": _texts(asked)}
        for _ in range(asked.rounds):
            for kind, clients in itertools.product(bodies, (1, asked.clients)):
                for name, port in (("ours", ours), ("peer", peer)):
                    found = asyncio.run(_load(port, "/knn-service", bodies[kind], clients, asked.seconds))
                    figures.setdefault((name, kind, clients), []).append(found)
                    print(f"{name}  {kind:9}  {clients:2} clients  {found.rate:7.0f} requests/s", flush=True)
        searches = _searches(asked)
        load = asyncio.run(_load(ours, "/api/search", searches, 50, asked.load_seconds))
    _report(asked, figures, load)


@contextlib.contextmanager
def _service(name: str, dataset: str) -> Iterator[int]:
    """Start a service; return its port when it has answered."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = {
        "ours": ["-c", "from laion_assets.cli import main; main()", "serve"],
        "peer": ["-m", "laion_assets.cli.clip_retrieval_back"],
    }[name]
    command = [sys.executable, *start, "--dataset", dataset, "--port", str(port)]
    log = Path(f"bench-search-{name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        )
    try:
        started = time.monotonic()
        ready = "/readyz" if name == "ours" else "/indices-list"
        while not _answers(port, ready):
            if process.poll() is not None or time.monotonic() - started > START_S:
                sys.exit(f"{name} did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2_000:]}")
            time.sleep(0.05)
        print(f"{name} answered after {time.monotonic() - started:.1f} s", flush=True)
        yield port
    finally:
        process.terminate()
        process.wait(30)
        log.unlink(missing_ok=True)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _ask(port: int, body: bytes) -> list[dict]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/knn-service", body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def _require_same_rows(asked: argparse.Namespace, ours: int, peer: int) -> None:
    """End with status 1 unless both return the same rows and similarities, hidden rows aside."""
    options = {"deduplicate": False, "num_images": 100, "num_result_ids": 100, "indice_name": asked.dataset}
    for fields in ({"text": "a red circle"}, {"embedding_input": _vectors(asked.dataset, 1)[0]}):
        body = json.dumps({**CLIENT_DEFAULTS, **options, **fields}).encode()
        found = {row["id"]: row["similarity"] for row in _ask(ours, body)}
        theirs = {row["id"]: row["similarity"] for row in _ask(peer, body) if row["id"] in found}
        if found.keys() != theirs.keys() or any(abs(found[row] - theirs[row]) > 1e-3 for row in found):
            sys.exit(f"The two services return different rows for {str(fields)[:60]}.")


async def _load(port: int, path: str, bodies: list[bytes], clients: int, seconds: float) -> Measured:
    """Send requests from `clients` clients, each the next one after its answer, for some seconds."""
    measured = Measured()
    pending = iter(bodies)
    ends = time.perf_counter() + seconds

    async def run() -> None:
        connection = None
        for body in pending:
            started = time.perf_counter()
            if started > ends:
                break
            try:
                connection, success = await _send(port, path, body, connection)
                measured.failed += not success
            except (OSError, EOFError, ValueError):
                connection = None
                measured.failed += 1
            measured.latencies.append(time.perf_counter() - started)
        else:
            raise RuntimeError("There are too few different requests: lower --seconds.")
        if connection is not None:
            connection[1].close()

    started = time.perf_counter()
    await asyncio.gather(*(run() for _ in range(clients)))
    measured.seconds = time.perf_counter() - started
    return measured


async def _send(port: int, path: str, body: bytes, connection: tuple | None) -> tuple[tuple | None, bool]:
    """Send a request and read its answer; return the connection, None if it was closed, and whether it succeeded."""
    reader, writer = connection or await asyncio.open_connection("127.0.0.1", port)
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    success = answer.split(b" ", 2)[1] == b"200"
    if b"connection: close" in answer or answer.startswith(b"http/1.0"):
        writer.close()
        return None, success
    return (reader, writer), success


def _vectors(dataset: str, count: int) -> list[list[float]]:
    from laion_assets.cli.dataset_option import load_dataset
    from laion_assets.stages.knn_indices.handle import KnnIndices

    width = KnnIndices.of(load_dataset(dataset)).manifest(0).details["width"]
    vectors = np.random.default_rng(7).standard_normal((count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).round(6).tolist()


def _embeddings(asked: argparse.Namespace) -> list[bytes]:
    fields = {**CLIENT_DEFAULTS, "indice_name": asked.dataset}
    return [
        json.dumps({**fields, "embedding_input": vector}).encode() for vector in _vectors(asked.dataset, asked.requests)
    ]


def _sentences(count: int, seed: int) -> list[str]:
    from laion_assets.sample.scenes import COLOURS, RELATIONS, SHAPES, SIZES

    objects = [f"{size} {colour} {shape}" for size in SIZES for colour in COLOURS for shape in SHAPES]
    found = [f"a {a} {relation} a {b}" for a in objects for relation in RELATIONS for b in objects]
    random.Random(seed).shuffle(found)
    return found[:count]


def _texts(asked: argparse.Namespace) -> list[bytes]:
    fields = {**CLIENT_DEFAULTS, "indice_name": asked.dataset}
    return [json.dumps({**fields, "text": text}).encode() for text in _sentences(asked.requests, 1)]


def _searches(asked: argparse.Namespace) -> list[bytes]:
    # Texts repeat, as those of people do: every text is sent several times.
    bodies = [
        json.dumps({"dataset": asked.dataset, "terms": [{"text": text}]}).encode() for text in _sentences(20_000, 2)
    ]
    return bodies * 50


def _report(asked: argparse.Namespace, figures: dict[tuple[str, str, int], list[Measured]], load: Measured) -> None:
    def rate(name: str, kind: str, clients: int) -> float:
        return statistics.median(each.rate for each in figures[name, kind, clients])

    def latency(name: str, kind: str, share: float) -> float:
        return statistics.median(each.percentile(share) for each in figures[name, kind, 1])

    print(f"\n{'query':10} {'clients':>7} {'ours':>9} {'peer':>9} {'ratio':>7}   requests/s, median of {asked.rounds}")
    for kind, clients in itertools.product(("embedding", "text"), (1, asked.clients)):
        ours, peer = rate("ours", kind, clients), rate("peer", kind, clients)
        print(f"{kind:10} {clients:7} {ours:9.1f} {peer:9.1f} {ours / peer:7.1f}")
    result: dict = {"bench": "search", "cores": len(os.sched_getaffinity(0))}
    for kind in ("embedding", "text"):
        ours, peer = rate("ours", kind, asked.clients), rate("peer", kind, asked.clients)
        entry = {
            "ours": round(ours, 1),
            "peer": round(peer, 1),
            "ratio": round(ours / peer, 2),
            "p50_ms": latency("ours", kind, 50),
            "p99_ms": latency("ours", kind, 99),
            "peer_p50_ms": latency("peer", kind, 50),
            "peer_p99_ms": latency("peer", kind, 99),
        }
        result |= entry if kind == "embedding" else {"text": entry}
    result["load"] = {
        "clients": 50,
        "seconds": round(load.seconds, 1),
        "rate": round(load.rate, 1),
        "p50_ms": load.percentile(50),
        "p99_ms": load.percentile(99),
        "failed": load.failed,
    }
    failed = load.failed + sum(each.failed for rounds in figures.values() for each in rounds)
    print(json.dumps(result))
    if failed:
        sys.exit(f"{failed} requests failed.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="sample", help="a dataset with committed indices (default: sample)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of a measurement (default: 8)")
    parser.add_argument("--clients", type=int, default=8, help="parallel clients, besides 1 (default: 8)")
    parser.add_argument("--load-seconds", type=float, default=60, help="seconds of the 50 clients (default: 60)")
    parser.add_argument("--requests", type=int, default=20_000, help="different requests of a kind (default: 20,000)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
