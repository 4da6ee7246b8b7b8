"""Spark as a Dagster resource, for any master, started on first use and stopped at the end of the run."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from laion_assets.errors import SparkError
from laion_assets.orchestration.resources.spark_requirements import check_java, check_python, check_spark_home
from laion_assets.processes.user import name_user, spark_user_conf

_STOP_S = 3.0
_LOG_TAIL_CHARS = 2_000
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"

SPARK_CONF: dict[str, str] = {
    # The run's log has our own progress lines instead.
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "ERROR",
    # The data in the exchange is already compressed.
    "spark.shuffle.compress": "false",
    # The JVM moves few large values: G1 would start a cycle for every few of them, and C2 does not pay off.
    _JAVA_OPTIONS: "-XX:+UseParallelGC -XX:TieredStopAtLevel=1",
    # Spark's default checksum (Adler-32) is computed byte by byte, CRC32C by the processor.
    "spark.shuffle.checksum.algorithm": "CRC32C",
    # One writer per parquet file. Retries only help when an executor is lost.
    "spark.speculation": "false",
    "spark.task.maxFailures": "4",
}
"""Spark configuration of every session. The dataset's `spark.conf` overrides it."""


class SparkResource(dg.ConfigurableResource):
    """A Spark session built by dagster-pyspark's `LazyPySparkResource`.

    `session()` imports dagster-pyspark, which imports pyspark, so that a code location loads fast. dagster-pyspark's
    resources do not stop Spark; this one stops the session and the JVM when the run ends, also if it fails. Python
    workers use this interpreter; if the executors have another one, set `spark.pyspark.python` in `conf`.
    """

    master: str
    driver_memory: str
    conf: dict[str, str] = {}
    app_name: str = "laion-assets"
    _lazy: Any = PrivateAttr(default=None)

    def session(self) -> Any:
        """Return the run's SparkSession. Raises SparkError if Java, Python or a setting does not suit Spark."""
        if self._lazy is None:
            self._check_needs()
            from dagster_pyspark import LazyPySparkResource

            self._lazy = LazyPySparkResource(
                spark_config={
                    **_with_temporary_folder(SPARK_CONF),
                    **spark_user_conf(),
                    "spark.app.name": self.app_name,
                    "spark.master": self.master,
                    "spark.driver.memory": self.driver_memory,
                    **self.conf,
                }
            )
            logging.getLogger().addFilter(_is_not_py4j)
            try:
                with _jvm_stderr_in_file(), _interrupt_handler_kept():
                    self._lazy.spark_session  # noqa: B018 - starts it
            except BaseException:
                self._lazy = None
                raise
        _kill_jvm_on_interrupt()
        return self._lazy.spark_session

    def _check_needs(self) -> None:
        """Check Java and Python before anything starts, and set the interpreter of PySpark's workers."""
        check_java()
        check_spark_home()
        given = "PYSPARK_PYTHON" in os.environ
        # Outside spark-submit, PySpark reads the workers' interpreter only from here.
        python = os.environ.setdefault("PYSPARK_PYTHON", self.conf.get("spark.pyspark.python", sys.executable))
        if self.master.startswith("local"):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            check_python(python, "PYSPARK_PYTHON" if given else "spark.pyspark.python in spark.conf")
        name_user()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Stop the session and the JVM; the next run starts its own."""
        if self._lazy is not None:
            self._lazy = None
            end_jvm()


@contextlib.contextmanager
def _interrupt_handler_kept() -> Iterator[None]:
    """Keep the run's handler of Ctrl-C: a SparkContext replaces it by one that asks the JVM to cancel all jobs.

    That handler calls the JVM from within the call that it interrupts, and fails. The run stops the JVM instead.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _kill_jvm_on_interrupt() -> None:
    """Let Ctrl-C and a terminated run kill the JVM first, then do what the handler of the signal did before.

    PySpark's own clean-up calls the JVM while the interrupt passes through it, and would wait for the running job.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, _KillJvmFirst):
            signal.signal(number, _KillJvmFirst(handler))


@dataclass(frozen=True)
class _KillJvmFirst:
    """A signal handler that kills the JVM, if there is one, and then calls another handler."""

    then: Callable[[int, FrameType | None], Any]

    def __call__(self, number: int, frame: FrameType | None) -> None:
        from pyspark import SparkContext

        process = getattr(SparkContext._gateway, "proc", None)
        if process is not None:
            process.kill()
        self.then(number, frame)


def _is_not_py4j(record: logging.LogRecord) -> bool:
    """Filter the tracebacks that Py4J writes to the root logger: it also raises these errors."""
    return "py4j" not in Path(record.pathname).parts


@contextlib.contextmanager
def _jvm_stderr_in_file() -> Iterator[None]:
    """Give the JVM a file as its standard error; if the start fails, a SparkError quotes it.

    A started JVM keeps that file: its warnings, and the tracebacks of its Python workers, which the driver's exception
    repeats, stay out of the run's log.
    """
    with tempfile.NamedTemporaryFile(prefix="laion-assets-jvm-", suffix=".log") as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception as error:
            logged = Path(log.name).read_text(encoding="utf-8", errors="replace")
            error.add_note(f"The JVM logged: {logged[-_LOG_TAIL_CHARS:]}")
            raise SparkError(
                f"Spark did not start: {_first_problem(logged) or str(error).strip()[:500]}. "
                "Check spark.master, spark.driver_memory and spark.conf."
            ) from error
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _with_temporary_folder(conf: dict[str, str]) -> dict[str, str]:
    """Return the configuration with Python's temporary folder for the JVM, which ignores TMPDIR."""
    folder = tempfile.gettempdir()
    if folder == "/tmp":  # noqa: S108
        return conf
    return {**conf, _JAVA_OPTIONS: f'{conf[_JAVA_OPTIONS]} "-Djava.io.tmpdir={folder}"'}


def _first_problem(logged: str) -> str:
    """Return the line of a JVM's log with the reason why it did not start, empty if there is none."""
    lines = [line.strip() for line in logged.splitlines()]
    marks = ("Exception in thread", "Error: ", "Error occurred", "Caused by:", "Invalid ", "Unrecognized ", "[ERROR")
    found = next((line for line in lines if line.startswith(marks)), "")
    return found.removeprefix('Exception in thread "main" ').rstrip(".")[:500]


def end_jvm() -> None:
    """Stop the active Spark session, if any, and end its JVM within seconds, even if it no longer responds.

    A JVM that is still starting ends by itself when our end of its pipe closes.
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    gateway = SparkContext._gateway
    session = SparkSession._instantiatedSession
    if session is not None:
        stopping = threading.Thread(target=_stop_quietly, args=(session,), daemon=True)
        stopping.start()
        stopping.join(_STOP_S)
    process = getattr(gateway, "proc", None)
    if process is not None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        process.kill()
        process.wait()
    SparkSession._instantiatedSession = None
    SparkContext._active_spark_context = None
    SparkContext._gateway = SparkContext._jvm = None


def _stop_quietly(session: Any) -> None:
    with contextlib.suppress(Exception):
        session.stop()
