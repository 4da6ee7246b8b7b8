"""The sides of `bench/images.py`: our shard tasks in our worker pool, with either engine, and the img2dataset program.

The peer is the program alone, so that it is not slowed down by our guard, verification and commit.

Each run is a separate program, so that the CPU time of all its processes can be measured. A rate counts from the first
shard's start to the last one's end. The start-up before (imports, once per process) is measured separately, by a run of
one row per process, and subtracted from the CPU time.
"""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from image_rows import Rows
from image_warm_up import WarmUp

from laion_assets.stages.image_shards.shard.outcome import ShardOutcome

OURS, STOCK, ENGINE = "ours", "img2dataset", "engine"
"""ENGINE: ours with `images.engine` img2dataset and the recipe's threads."""
RECIPE_THREADS = 128
QUIET_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled", "OPENCV_LOG_LEVEL": "ERROR"}
"""For img2dataset: albumentations checks for updates on import, and wandb requires an account."""
ADDITIONAL_COLUMNS = ("uid", "NSFW", "similarity", "LICENSE")


@dataclass(frozen=True)
class Used:
    """Resources used by a program and its children: CPU seconds, user and system, and memory of the largest process."""

    cpu_s: float
    peak_mib: float


@dataclass(frozen=True)
class Run:
    """One run of one engine: wall seconds of its shards, resources used with its start-up, and its output folder."""

    side: str
    images: int
    seconds: float
    used: Used
    folder: Path

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def run(side: str, rows: Rows, resolve: dict[str, str], ca_file: Path, folder: Path, cores: list[int]) -> Run:
    """Run one engine with one process per core. Raises RuntimeError with the end of its log if it fails."""
    prepare(side, rows, resolve, folder, len(cores))
    used = run_program([sys.executable, __file__, str(folder)], ca_file, cores, folder / "log")
    times = json.loads((folder / "times.json").read_text(encoding="utf-8"))
    return Run(side, rows.count, times["ended"] - times["started"], used, output_folder(side, folder))


def prepare(side: str, rows: Rows, resolve: dict[str, str], folder: Path, processes: int) -> None:
    """Write the rows and the settings for a run of one side into a new folder."""
    folder.mkdir(parents=True)
    order: dict[str, object] = {"side": side, "processes": processes, "folder": str(folder), "shards": len(rows.shards)}
    if side != STOCK:
        dataset = rows.commit(folder / "data", resolve)
        if side == ENGINE:
            fetch = replace(dataset.images.fetch, retries=0)
            images = replace(dataset.images, engine="img2dataset", threads=RECIPE_THREADS, fetch=fetch)
            dataset = replace(dataset, images=images)
        (folder / "dataset.pickle").write_bytes(pickle.dumps(dataset))
    else:
        order["rows"] = str(rows.write_parquet(folder / "rows"))
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")


def output_folder(side: str, folder: Path) -> Path:
    """Return the folder of a run's tar and parquet files."""
    return folder / "data" / "bench" / "image_shards" if side != STOCK else folder / "images"


def run_program(command: list[str], ca_file: Path, cores: list[int], log: Path) -> Used:
    """Run a program on these cores and wait for it. It trusts the CAs in `ca_file`.

    It has its own process group, which is killed if an exception is raised here, also by Ctrl-C.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, **QUIET_ENVIRONMENT, "SSL_CERT_FILE": str(ca_file)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        tail = log.read_text(errors="replace", encoding="utf-8")[-3_000:]
        raise RuntimeError(f"{' '.join(command[1:])} ended with status {process.returncode}:\n{tail}")
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _run_ours(order: dict) -> dict[str, float]:
    from laion_assets.stages.image_shards.shard.task import ShardTask
    from laion_assets.workers.pool import run_tasks

    dataset = pickle.loads((Path(order["folder"]) / "dataset.pickle").read_bytes())
    started: list[float] = []
    ended: list[float] = []

    def on_done(outcome: ShardOutcome) -> None:
        if not outcome.skipped:
            ended.append(time.time())
            started.append(ended[-1] - outcome.seconds)

    warm_ups = [WarmUp(-1 - number, dataset.images) for number in range(order["processes"])]
    failures = run_tasks(
        [*warm_ups, *(ShardTask(dataset, shard) for shard in range(order["shards"]))], order["processes"], on_done
    )
    if failures:
        sys.exit("\n".join(f"{failure.key}: {failure.message}\n{failure.traceback}" for failure in failures))
    return {"started": min(started), "ended": max(ended)}


def _run_stock(order: dict) -> dict[str, float]:
    from img2dataset import download

    folder = Path(order["folder"]) / "images"
    download(
        url_list=order["rows"],
        input_format="parquet",
        url_col="URL",
        caption_col="TEXT",
        output_folder=str(folder),
        output_format="webdataset",
        processes_count=order["processes"],
        thread_count=RECIPE_THREADS,
        image_size=256,
        save_additional_columns=list(ADDITIONAL_COLUMNS),
        number_sample_per_shard=10_000,
    )
    stats = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*_stats.json"))]
    if len(stats) != order["shards"]:
        sys.exit(f"img2dataset built {len(stats)} of {order['shards']} shards")
    return {"started": min(each["start_time"] for each in stats), "ended": max(each["end_time"] for each in stats)}


if __name__ == "__main__":
    order = json.loads((Path(sys.argv[1]) / "order.json").read_text(encoding="utf-8"))
    times = (_run_stock if order["side"] == STOCK else _run_ours)(order)
    (Path(sys.argv[1]) / "times.json").write_text(json.dumps(times), encoding="utf-8")
