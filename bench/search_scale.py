"""Measure the search service on a synthetic dataset of LAION's shape: 400 files, 41,600 row groups, millions of rows.

    python bench/search_scale.py [--files 400] [--groups 104] [--rows 200] [--queries 60] [--folder DIR]

The dataset has the layout, files, manifests and index type of a large one, and random content: an inverted file with
product quantisation over random codes, vectors of the sample's width, metadata with captions and URLs of usual length.
It is built in `--folder` (about 0.5 GB for each million rows) and used again if it is there.

The service runs in its own process. Queries are random vectors with 50 results each, so that the results are in about
50 different files. Before `cold`, the pages of all files are dropped from the page cache. `new` are other queries after
that, `same` the same queries again. The last line is a JSON object: seconds until the service answers searches, and
until it has read the tags of all rows; memory of the process in MB, apart from mapped files; p50 and p99 in
milliseconds of each kind of query, with the steps of the median.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout

WIDTH = 128
LISTS = 4_096
PROBES = 32
CODE_BYTES = 32
VARIANTS = 4
"""Different metadata files; the others are copies of them with the same rows."""
START_S = 600


def main() -> None:
    """Build the dataset, serve it, and print the figures."""
    asked = _arguments()
    dataset = _dataset(asked)
    if asked.serve:
        from laion_assets.server.run import serve

        serve([dataset], "127.0.0.1", asked.serve, print)
        return
    if not (Path(dataset.root) / dataset.name / "manifests" / "knn_indices").exists():
        started = time.monotonic()
        _build(dataset)
        print(
            f"built {asked.files * asked.groups * asked.rows:,} rows in {time.monotonic() - started:.0f} s", flush=True
        )
    print(json.dumps(_measure(asked, dataset)))


def _dataset(asked: argparse.Namespace) -> Dataset:
    layout = Layout(4, asked.files * asked.groups, asked.files, asked.rows)
    name = f"scale_{asked.files}_{asked.groups}_{asked.rows}"
    return replace(SAMPLE, name=name, root=str(asked.folder), layout=layout)


def _build(dataset: Dataset) -> None:
    """Write and commit embeddings and indices. No stage runs: images and rows of earlier stages do not exist."""
    from laion_assets.models.weights import weights_identity
    from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
    from laion_assets.stages.knn_indices.build import METADATA_FOLDER
    from laion_assets.stages.knn_indices.details import footer_sha256
    from laion_assets.stages.knn_indices.handle import KNN_INDICES
    from laion_assets.store.manifest import Counts, FileEntry
    from laion_assets.store.store import Store
    from laion_assets.store.transaction import open_transaction

    store, layout, model = Store.of(dataset), dataset.layout, weights_identity(dataset.model)
    rows = layout.shards // layout.embedding_files * layout.rows_per_shard
    manifests = []
    with tempfile.TemporaryDirectory(dir=dataset.root) as folder:
        metadata = [_write_metadata(Path(folder) / f"{number}.parquet", layout, number) for number in range(VARIANTS)]
        rng = np.random.default_rng(1)
        for number in layout.embedding_numbers:
            vectors = rng.standard_normal((rows, WIDTH)).astype(np.float16)
            with open_transaction(store, CLIP_EMBEDDINGS, layout.embedding_key(number)) as transaction:
                for kind in ("img_emb", "text_emb"):
                    with transaction.stage(ClipEmbeddings.path(layout, number, kind)).open("wb") as file:
                        np.save(file, vectors)
                shutil.copyfile(
                    metadata[number % VARIANTS], transaction.stage(ClipEmbeddings.path(layout, number, "metadata"))
                )
                details = {"model": model, "width": WIDTH}
                manifests.append(transaction.commit(Counts(rows, rows), settings="", inputs="", details=details))
    with open_transaction(store, KNN_INDICES) as transaction:
        for modality in ("image", "text"):
            path = transaction.stage(f"{KNN_INDICES}/{modality}.index")
            _write_index(path, rows * layout.embedding_files)
        inputs = []
        for number, manifest in zip(layout.embedding_numbers, manifests, strict=True):
            paths = {kind: ClipEmbeddings.path(layout, number, kind) for kind in ("img_emb", "text_emb", "metadata")}
            own = manifest.entry(paths["metadata"])
            staged = transaction.stage_hashed(
                FileEntry(f"{METADATA_FOLDER}/{own.path.rsplit('/', 1)[-1]}", own.size, own.sha256)
            )
            os.link(store.local_path(own.path), staged)
            with staged.open("rb") as file:
                footer = footer_sha256(file, own.path)
            inputs.append({**{kind: manifest.entry(path).sha256 for kind, path in paths.items()}, "footer": footer})
        total = rows * layout.embedding_files
        details = {"model": model, "width": WIDTH, "metric": "ip", "inputs": inputs}
        details["rows"] = [rows] * layout.embedding_files
        transaction.commit(Counts(total, total), settings="", inputs="", details=details)


def _write_metadata(path: Path, layout: Layout, seed: int) -> Path:
    """Write a metadata file: a row group for each shard, with the columns of the pipeline."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = [f"w{hashlib.md5(str(number).encode()).hexdigest()[: 2 + number % 9]}" for number in range(20_000)]
    rng = random.Random(seed)
    writer = None
    for shard in layout.shards_of_embedding(layout.embedding_numbers[0]):
        table = []
        for row in range(layout.rows_per_shard):
            caption = " ".join(rng.choices(words, k=rng.randrange(4, 18)))
            host, name = rng.choices(words, k=2)
            url = f"https://cdn.{host}.example/{rng.randrange(10**9)}/{name}-{rng.randrange(10**6)}_1024x768.jpg?v=3"
            key = layout.sample_key(shard, row)
            table.append(
                {
                    "image_path": key, "caption": caption,
                    "uid": hashlib.md5(f"{url}\0{caption}".encode()).hexdigest(),
                    "NSFW": rng.choices(("UNLIKELY", "UNSURE", "NSFW"), (95, 3, 2))[0],
                    "similarity": rng.uniform(0.3, 0.4), "LICENSE": "?", "url": url, "key": key, "status": "success",
                    "error_message": None, "width": 256, "height": 256,
                    "original_width": rng.randrange(200, 4_000), "original_height": rng.randrange(200, 4_000),
                    "exif": "{}", "sha256": rng.randbytes(32).hex(), "reason": "success",
                    "clip_similarity": rng.uniform(0.2, 0.4),
                }
            )  # fmt: skip
        arrow = pa.Table.from_pylist(table)
        writer = writer or pq.ParquetWriter(path, arrow.schema, compression="zstd")
        writer.write_table(arrow, row_group_size=len(arrow))
    writer.close()
    return path


def _write_index(path: Path, rows: int) -> None:
    """Write an IVF-PQ index with random codes: its results are as scattered as those of data."""
    import faiss

    rng = np.random.default_rng(2)
    quantizer = faiss.IndexFlatIP(WIDTH)
    index = faiss.IndexIVFPQ(quantizer, WIDTH, LISTS, CODE_BYTES, 8, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(rng.standard_normal(256 * WIDTH).astype(np.float32), index.pq.centroids)
    quantizer.add(rng.standard_normal((LISTS, WIDTH)).astype(np.float32))
    index.is_trained = True
    ids = rng.permutation(rows).astype(np.int64)
    codes = rng.integers(0, 256, (rows, CODE_BYTES), dtype=np.uint8)
    for number, part in enumerate(np.array_split(np.arange(rows), LISTS)):
        if len(part):
            first, last = int(part[0]), int(part[-1]) + 1
            index.invlists.add_entries(
                number, last - first, faiss.swig_ptr(ids[first:last]), faiss.swig_ptr(codes[first:last])
            )
    index.ntotal = rows
    index.nprobe = PROBES
    faiss.write_index(index, str(path))


def _measure(asked: argparse.Namespace, dataset: Dataset) -> dict:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(asked.folder), "--serve", str(port)]
    root = Path(dataset.root) / dataset.name
    _drop_pages(root)
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() - started > START_S:
                    sys.exit("the service did not start")
                time.sleep(0.05)
            figures: dict = {"bench": "search-scale", "cores": len(os.sched_getaffinity(0))}
            figures |= {"files": asked.files, "row_groups": asked.files * asked.groups}
            figures["rows"] = asked.files * asked.groups * asked.rows
            figures["start_s"] = round(time.monotonic() - started, 2)
            while _ask(port, "/api/datasets")["datasets"][0]["hidden_rows"] is None:
                time.sleep(0.1)
            figures["tags_s"] = round(time.monotonic() - started, 2)
            figures["memory_mb"] = _memory(process.pid)
            rng = np.random.default_rng(3)
            first, second = (rng.standard_normal((asked.queries, WIDTH)).round(4).tolist() for _ in range(2))
            _drop_pages(root)
            for kind, vectors in (("cold", first), ("new", second), ("same", second)):
                figures[kind] = _search(port, dataset.name, vectors)
            figures["memory_after_mb"] = _memory(process.pid)
            return figures
        finally:
            process.terminate()


def _search(port: int, name: str, vectors: list[list[float]]) -> dict:
    taken, steps = [], []
    for vector in vectors:
        body = json.dumps({"dataset": name, "terms": [{"vector": vector}], "k": 50}).encode()
        before = time.perf_counter()
        answer = _ask(port, "/api/search", body)
        taken.append((time.perf_counter() - before) * 1_000)
        steps.append(answer["took_ms"])
        if len(answer["results"]) != 50:
            sys.exit(f"expected 50 results, got {len(answer['results'])}")
    middle = {step: round(statistics.median(each[step] for each in steps), 2) for step in ("index", "metadata")}
    p50, p99 = np.percentile(taken, (50, 99)).round(1).tolist()
    return {"p50_ms": p50, "p99_ms": p99, **{f"{step}_p50_ms": value for step, value in middle.items()}}


def _ask(port: int, path: str, body: bytes | None = None) -> dict:
    with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", body), timeout=120) as answer:
        return json.load(answer)


def _is_ready(port: int) -> bool:
    try:
        return _ask(port, "/readyz")["status"] == "ready"
    except (urllib.error.URLError, OSError):
        return False


def _memory(pid: int) -> dict[str, int]:
    """Return the memory of a process in MB: `own`, and `mapped` pages of files, which the kernel can drop."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    return {name: int(lines[key].split()[0]) // 1_024 for name, key in (("own", "RssAnon"), ("mapped", "RssFile"))}


def _drop_pages(root: Path) -> None:
    """Drop the pages of all files below a folder from the page cache, except those that a process has mapped."""
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=400, help="embedding files (default: 400)")
    parser.add_argument("--groups", type=int, default=104, help="row groups of each file (default: 104)")
    parser.add_argument("--rows", type=int, default=200, help="rows of each row group (default: 200; LAION: 10,000)")
    parser.add_argument("--queries", type=int, default=60, help="queries of a kind (default: 60)")
    parser.add_argument("--folder", type=Path, default=Path("bench-search-scale"), help="folder of the dataset")
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    asked.folder = asked.folder.absolute()
    return asked


if __name__ == "__main__":
    main()
