"""A real Spark standalone cluster on loopback for tests: a master and two workers of the pip package.

A process has only one Spark context, and other tests use the one of this process. So run each driver of the cluster in
a separate process (`Cluster.run`).
"""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_S = 60.0
"""Longest wait for the workers to register with the master."""
STOP_S = 5.0
TOP = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1
_QUICK_JVM = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
_REGISTERED = "Registering worker"


@dataclass(frozen=True)
class Cluster:
    """A running cluster: `master` is its URL (`spark://127.0.0.1:port`), `folder` has its logs and work folders."""

    master: str
    folder: Path
    processes: tuple[subprocess.Popen[bytes], ...] = field(repr=False)

    @property
    def conf(self) -> dict[str, str]:
        """Spark configuration with executors as small as the workers of the cluster."""
        return {
            "spark.executor.memory": "512m",
            "spark.executor.cores": "1",
            "spark.executor.extraJavaOptions": _QUICK_JVM,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
        }

    def executors(self) -> list[psutil.Process]:
        """Return the running JVMs of executors. Their Python workers are their children."""
        found = []
        for worker in self.processes[1:]:
            for child in psutil.Process(worker.pid).children():
                with contextlib.suppress(psutil.Error):
                    if any("CoarseGrainedExecutorBackend" in word for word in child.cmdline()):
                        found.append(child)
        return found

    def run(self, script: str, *arguments: str, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run Python source in a separate process. `sys.argv` has the URL of the master, then `arguments`."""
        return subprocess.run(self.command(script, *arguments), capture_output=True, text=True, timeout=timeout_s,
                              env=environment(), preexec_fn=_end_with_parent)  # fmt: skip

    def command(self, script: str, *arguments: str) -> list[str]:
        """Return the command line of `run`."""
        return [sys.executable, "-c", script, self.master, *arguments]


def environment() -> dict[str, str]:
    """Return the environment of drivers and executors: this interpreter, this source tree, loopback."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")])),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": _QUICK_JVM,
    }


@contextlib.contextmanager
def standalone_cluster(
    folder: Path, workers: int = 2, cores: int = 1, memory: str = "1g", gpus: int = 0
) -> Iterator[Cluster]:
    """Start a master and its workers, and stop them with all their child processes. Logs and work are below `folder`.

    Each worker reports `gpus` GPUs, which do not exist, through the discovery script of deploy/. All processes also end
    if this one is killed: the kernel kills them with it, and executors end with their worker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        log = folder / "master.log"
        processes.append(_start(folder, log, "master.Master", "--host", "127.0.0.1", "--port", "0"))
        master = _await(log, r"Starting Spark master at (spark://\S+)", processes)[0]
        for number in range(workers):
            work = folder / f"work-{number}"
            options = ("--host", "127.0.0.1", "--cores", str(cores), "--memory", memory, "--work-dir", str(work))
            log_of_worker = folder / f"worker-{number}.log"
            processes.append(_start(folder, log_of_worker, "worker.Worker", *options, master, gpus=gpus))
        _await(log, _REGISTERED, processes, workers)
        yield Cluster(master, folder, tuple(processes))
    finally:
        _end(processes)


def _start(folder: Path, log: Path, name: str, *options: str, gpus: int = 0) -> subprocess.Popen[bytes]:
    import pyspark

    home = Path(pyspark.__file__).parent
    conf = folder / "conf"
    conf.mkdir(exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            [
                "bash",
                str(home / "bin" / "spark-class"),
                f"org.apache.spark.deploy.{name}",
                "--webui-port",
                "0",
                *options,
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**environment(), "SPARK_HOME": str(home), "SPARK_CONF_DIR": str(conf), **_gpu_options(folder, gpus)},
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )


def _gpu_options(folder: Path, gpus: int) -> dict[str, str]:
    """Return the environment of a worker with the GPUs 0, 1, ..., which a program in place of nvidia-smi reports."""
    if not gpus:
        return {}
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "nvidia-smi").write_text(f"#!/bin/sh\nseq 0 {gpus - 1}\n")
    (programs / "nvidia-smi").chmod(0o755)
    name = "-Dspark.worker.resource.gpu"
    return {
        "SPARK_WORKER_OPTS": f"{name}.amount={gpus} {name}.discoveryScript={TOP / 'deploy' / 'discover_gpus.sh'}",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }


def _end_with_parent() -> None:
    """Let the kernel (prctl(2)) kill this process when the thread that started it ends. Survives exec."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _await(log: Path, sign: str, processes: list[subprocess.Popen[bytes]], times: int = 1) -> list[str]:
    deadline = time.monotonic() + START_S
    while len(found := re.findall(sign, log.read_text(errors="replace"))) < times:
        ended = [process for process in processes if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            output = "\n".join(path.read_text(errors="replace")[-2_000:] for path in sorted(log.parent.glob("*.log")))
            raise RuntimeError(f"The Spark cluster did not start within {START_S:g} s. Its logs end with: {output}")
        time.sleep(0.1)
    return found


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    below = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            below += psutil.Process(process.pid).children(recursive=True)
    for process in reversed(processes):
        process.terminate()
    ends = time.monotonic() + STOP_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, ends - time.monotonic()))
        process.kill()
        process.wait()
    for left in below:
        with contextlib.suppress(psutil.Error):
            left.kill()
    psutil.wait_procs(below, STOP_S)
