"""Check what Spark requires before it starts: Java, this release of Spark, one Python.

Without the checks, the JVM or a worker fails with a stack trace that names no setting.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from laion_assets.errors import SparkError

MIN_JAVA = 17
"""The oldest Java that Spark 4.1 supports."""
_TIMEOUT_S = 60


def check_java() -> None:
    """Refuse a Java that is missing or older than Spark runs on. Raises SparkError."""
    home = os.environ.get("JAVA_HOME")
    if home:
        java, origin = str(Path(home) / "bin" / "java"), f"JAVA_HOME is {home}"
        fix = f"Set JAVA_HOME to the folder of a Java {MIN_JAVA} or later, or unset it."
        if not os.access(java, os.X_OK) or Path(java).is_dir():
            raise SparkError(f"Spark needs Java. {origin}, which has no program bin/java. {fix}")
    else:
        java, origin = shutil.which("java") or "", "The first java of PATH is "
        fix = f"Install Java {MIN_JAVA} (apt-get install openjdk-17-jre-headless), or set JAVA_HOME to its folder."
        if not java:
            raise SparkError(f"Spark needs Java. JAVA_HOME is not set and PATH has no java. {fix}")
        origin += java
    printed = _output([java, "-version"])
    found = re.search(r'version "(?:1\.)?([0-9]+)', printed)
    if found is None:
        raise SparkError(f"{origin}, and `java -version` has no version: {printed.strip()[:300] or 'nothing'}. {fix}")
    if int(found[1]) < MIN_JAVA:
        raise SparkError(f"{origin}, which is Java {found[1]}. Spark needs Java {MIN_JAVA} or later. {fix}")


def check_spark_home() -> None:
    """Refuse a SPARK_HOME of another release than the pyspark of this environment. Raises SparkError."""
    home = os.environ.get("SPARK_HOME")
    if not home:
        return
    import pyspark

    jars = sorted(path.stem for path in Path(home).glob("jars/spark-core_*.jar"))
    wanted = pyspark.__version__.rpartition(".")[0]
    if not any(jar.rpartition("-")[2].startswith(f"{wanted}.") for jar in jars):
        found = jars[0].rpartition("-")[2] if jars else "not a Spark installation"
        raise SparkError(
            f"SPARK_HOME is {home}, which is {found}, and pyspark is {pyspark.__version__}. Unset SPARK_HOME to use "
            f"pyspark's own Spark, or set it to a Spark {wanted}."
        )


def check_python(python: str, origin: str) -> None:
    """Refuse an interpreter of Spark's workers that is missing or another Python than this one. Raises SparkError."""
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    fix = f"Unset it to use {sys.executable}, or name a Python {ours} that has this package."
    program = shutil.which(python)
    if program is None:
        raise SparkError(f"{origin} is {python!r}, which is not a program. {fix}")
    if os.path.abspath(program) == os.path.abspath(sys.executable):  # an environment's python is a link
        return
    code = "import sys; print('%d.%d' % sys.version_info[:2]); import laion_assets, pyarrow"
    printed = _output([program, "-c", code]).strip()
    version, _, problem = printed.partition("\n")
    if version != ours:
        found = f"Python {version}" if re.fullmatch(r"[0-9.]+", version) else f"not a Python: {printed[:200]}"
        raise SparkError(f"{origin} is {python!r}, which is {found}. Spark's workers need Python {ours}. {fix}")
    if problem:
        reason = problem.splitlines()[-1][-200:]
        raise SparkError(f"{origin} is {python!r}, which cannot import laion_assets and pyarrow: {reason}. {fix}")


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it does not run ({error})"
    return (done.stdout + done.stderr).decode("utf-8", errors="replace")
