"""Measure the time of each step of an image, for one shard in one process.

The time of a step excludes steps that it calls. CPU is the thread's (CLOCK_THREAD_CPUTIME_ID), so the sum of the steps
and of `the rest` (threads, queues, the loop between the steps) is the process's CPU. Wall time includes waiting for the
network and for the interpreter lock.
"""

import contextlib
import functools
import json
import pickle
import resource
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from image_sides import ADDITIONAL_COLUMNS, OURS, RECIPE_THREADS, run_program

REST = "the rest"
STEPS = ("rows", "fetch", "header", "decode", "resize", "encode", "exif", "hash", "write", "verify", "commit", REST)


class Stopwatch:
    """Wall and CPU seconds by step, of all threads."""

    def __init__(self) -> None:
        self.wall: defaultdict[str, float] = defaultdict(float)
        self.cpu: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._local = threading.local()

    def time_step(self, step: str, function: Callable) -> Callable:
        """Return the function with its time added to the step."""

        @functools.wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            stack = self._local.__dict__.setdefault("stack", [])
            stack.append([0.0, 0.0])
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
                inner_wall, inner_cpu = stack.pop()
                if stack:
                    stack[-1][0] += wall
                    stack[-1][1] += cpu
                with self._lock:
                    self.wall[step] += wall - inner_wall
                    self.cpu[step] += cpu - inner_cpu

        return wrapper

    @contextlib.contextmanager
    def on(self, *places: tuple[Any, str, str]) -> Iterator[None]:
        """Time the functions given as (owner, attribute, step) in the `with` body."""
        before = [(owner, name, owner.__dict__[name]) for owner, name, _ in places]
        for owner, name, step in places:
            setattr(owner, name, self.time_step(step, getattr(owner, name)))
        try:
            yield
        finally:
            for owner, name, function in before:
                setattr(owner, name, function)


def measure_steps(folder: Path, ca_file: Path, cores: list[int]) -> dict[str, dict[str, float]]:
    """Return `wall_ms` and `cpu_ms` per image by step of one engine. `folder` was prepared for it."""
    log = folder / "steps.log"
    run_program([sys.executable, __file__, str(folder)], ca_file, cores[:1], log)
    return json.loads((folder / "steps.json").read_text(encoding="utf-8"))


def describe_steps(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a table of the steps of several engines."""
    lines = [f"{'':10}" + "".join(f"{side + ' ' + kind:>20}" for side in found for kind in ("CPU", "wall"))]
    for step in (*STEPS, "all"):
        cells = [found[side].get(step, {}).get(kind) for side in found for kind in ("cpu_ms", "wall_ms")]
        lines.append(f"{step:10}" + "".join(f"{'-':>20}" if cell is None else f"{cell:20.3f}" for cell in cells))
    return "\n".join(lines)


def _stock(order: dict, watch: Stopwatch) -> int:
    import cv2
    import exifread
    import img2dataset.downloader as downloader
    import pyarrow as pa
    import pyarrow.parquet as pq
    from img2dataset.resizer import Resizer
    from img2dataset.writer import WebDatasetSampleWriter

    table = pq.read_table(Path(order["rows"]) / "00000.parquet")
    names = [*ADDITIONAL_COLUMNS, "caption", "url"]
    table = pa.table({name: table[{"caption": "TEXT", "url": "URL"}.get(name, name)] for name in names})
    output = Path(order["folder"]) / "steps"
    output.mkdir()
    feather = output / "rows.feather"
    with pa.OSFile(str(feather), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    opt_outs = ["noai", "noimageai", "noindex", "noimageindex"]
    make = downloader.Downloader(
        WebDatasetSampleWriter, Resizer(256, "border", False), RECIPE_THREADS, True, True, str(output), names, 10,
        10_000, 5, "sha256", None, "jpg", 0, None, opt_outs,
    )  # fmt: skip
    with watch.on(
        (downloader, "download_image_with_retry", "fetch"),
        (Resizer, "__call__", "resize"),
        (cv2, "imdecode", "decode"),
        (cv2, "imencode", "encode"),
        (exifread, "process_file", "exif"),
        (downloader.hashlib, "sha256", "hash"),
        (WebDatasetSampleWriter, "write", "write"),
        (WebDatasetSampleWriter, "close", "write"),
    ):
        make.download_shard((0, str(feather)))
    return table.num_rows


class _DecoderHere:
    """Decodes in this process, because the stopwatch cannot measure the decoder process (bench/decoder_process.py)."""

    def __init__(self, images: Any) -> None:
        from laion_assets.stages.image_shards.decoding.decoder_child import keep_freed_memory
        from laion_assets.stages.image_shards.decoding.reencoding import Reencoder

        keep_freed_memory()
        self._reencode = Reencoder(images)
        self._bodies: list[bytes] = []

    def __enter__(self) -> "_DecoderHere":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def full(self) -> bool:
        return bool(self._bodies)

    def put(self, body: bytes) -> None:
        self._bodies.append(body)

    def take(self) -> Any:
        from laion_assets.stages.image_shards.decoding import exif
        from laion_assets.stages.image_shards.decoding.decoder_process import Answer

        body = self._bodies.pop()
        image = self._reencode(body)
        return Answer(image, None if image.content is None else exif.exif_json(body, personal=False))


def _ours(order: dict, watch: Stopwatch) -> int:
    import cv2

    from laion_assets.http.fetch import Fetcher
    from laion_assets.stages.image_shards.decoding import decoder, decoder_process, exif, reencoding
    from laion_assets.stages.image_shards.shard import fetch as shard_fetch
    from laion_assets.stages.image_shards.shard import task as shard_task
    from laion_assets.stages.image_shards.shard import writer as shard_writer
    from laion_assets.store.transaction import Transaction

    dataset = pickle.loads((Path(order["folder"]) / "dataset.pickle").read_bytes())
    decoder_process.Decoder = _DecoderHere  # type: ignore[misc,assignment]
    with watch.on(
        (shard_task.ShardTask, "_read_rows", "rows"),
        (Fetcher, "fetch", "fetch"),
        (reencoding, "read_header", "header"),
        (reencoding.Reencoder, "__call__", "resize"),
        (decoder, "decode", "decode"),
        (cv2, "imencode", "encode"),
        (exif, "exif_json", "exif"),
        (shard_fetch.hashlib, "new", "hash"),
        (shard_writer.ShardWriter, "add", "write"),
        (shard_writer.ShardWriter, "close", "write"),
        (shard_task, "verify", "verify"),
        (Transaction, "commit", "commit"),
    ):
        return shard_task.ShardTask(dataset, 0, force=True).run().rows


def take_steps(folder: Path) -> dict[str, dict[str, float]]:
    """Build one shard in this process with the settings in `folder`, and measure every step."""
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    import cv2  # noqa: F401
    import exifread  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import scipy.sparse  # noqa: F401

    if order["side"] != OURS:
        import albumentations  # noqa: F401
        import img2dataset.downloader  # noqa: F401

    watch = Stopwatch()
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    rows = (_ours if order["side"] == OURS else _stock)(order, watch)
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    steps = {step: {"wall_ms": _ms(watch.wall[step], rows), "cpu_ms": _ms(watch.cpu[step], rows)} for step in watch.cpu}
    steps[REST] = {"cpu_ms": _ms(cpu - sum(watch.cpu.values()), rows)}
    steps["all"] = {"wall_ms": _ms(seconds, rows), "cpu_ms": _ms(cpu, rows)}
    return steps


def _ms(seconds: float, rows: int) -> float:
    return round(1e3 * seconds / rows, 4)


if __name__ == "__main__":
    (Path(sys.argv[1]) / "steps.json").write_text(json.dumps(take_steps(Path(sys.argv[1]))), encoding="utf-8")
