"""Spark as a Dagster resource, for any master, started when first asked for and ended with the run."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

_STOP_S = 3.0
_LOG_TAIL_CHARS = 2_000


class SparkResource(dg.ConfigurableResource):
    """A Spark session built by dagster-pyspark's `LazyPySparkResource`.

    dagster-pyspark imports pyspark, so it is imported in `session()`: a code location stays fast to load. Neither of
    its resources stops what it started; this one stops the session and ends the JVM when the run ends, however it ends.
    Python workers run this interpreter; where the executors have another, set `spark.pyspark.python` in `conf`.
    """

    master: str
    driver_memory: str
    conf: dict[str, str] = {}
    app_name: str = "laion-assets"
    _lazy: Any = PrivateAttr(default=None)

    def session(self) -> Any:
        """The run's SparkSession."""
        if self._lazy is None:
            from dagster_pyspark import LazyPySparkResource

            from laion_assets.metadata.spark_settings import SPARK_CONF

            # The only place where PySpark looks, outside of spark-submit, for the workers' interpreter.
            os.environ.setdefault("PYSPARK_PYTHON", self.conf.get("spark.pyspark.python", sys.executable))
            if self.master.startswith("local"):
                os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            self._lazy = LazyPySparkResource(
                spark_config={
                    **SPARK_CONF,
                    "spark.app.name": self.app_name,
                    "spark.master": self.master,
                    "spark.driver.memory": self.driver_memory,
                    **self.conf,
                }
            )
            logging.getLogger().addFilter(_is_not_py4j)
            with _jvm_noise_kept_apart(), _interrupts_kept():
                return self._lazy.spark_session
        return self._lazy.spark_session

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Stop the session and end the JVM; the next run starts its own."""
        if self._lazy is not None:
            self._lazy = None
            end_jvm()


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Keep the run's own handler of Ctrl-C: a SparkContext replaces it by one that asks the JVM to cancel all jobs.

    That handler calls the JVM from within the call that it interrupts, and fails. The run ends the JVM instead.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _is_not_py4j(record: logging.LogRecord) -> bool:
    """Drop the tracebacks that Py4J writes to the root logger: it raises the same errors, too."""
    return "py4j" not in Path(record.pathname).parts


@contextlib.contextmanager
def _jvm_noise_kept_apart() -> Iterator[None]:
    """Let the JVM inherit a file as its standard error; what a failed start said there goes into the error.

    A started JVM keeps what it inherited: its warnings, and the tracebacks of its Python workers, which the driver's
    exception repeats, stay out of the run's log.
    """
    with tempfile.NamedTemporaryFile(prefix="laion-assets-jvm-", suffix=".log") as log:
        kept = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception as error:
            said = Path(log.name).read_text(errors="replace")[-_LOG_TAIL_CHARS:]
            error.add_note(f"The JVM said: {said}")
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def end_jvm() -> None:
    """Stop the active Spark session, if any, and end its JVM within seconds, also when it no longer answers.

    A JVM that was still starting ends by itself: it reads our end of a pipe.
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
