"""Java, Spark and Python that Spark cannot use are refused before it starts, with what it needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from laion_assets.errors import SparkError
from laion_assets.orchestration.resources.spark import SparkResource, _first_problem
from laion_assets.orchestration.resources.spark_requirements import check_java, check_python, check_spark_home

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
RESOURCE = SparkResource(master="local[1]", driver_memory="1g")


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        ('java version "1.8.0_392"', "which is Java 8. Spark needs Java 17 or later"),
        ('openjdk version "11.0.21" 2023-10-17', "which is Java 11"),
        ("Error: no libjvm", "has no version: Error: no libjvm"),
    ],
)
def test_another_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, message: str) -> None:
    program(tmp_path / "bin" / "java", f"echo '{printed}' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SparkError) as raised:
        RESOURCE.session()
    assert message in str(raised.value)
    assert f"JAVA_HOME is {tmp_path}" in str(raised.value)
    assert "Set JAVA_HOME to the folder of a Java 17 or later, or unset it." in str(raised.value)
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(SparkError, match=f"The first java of PATH is {tmp_path}"):
        RESOURCE.session()


def test_a_java_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(SparkError, match=r"JAVA_HOME is .* has no program bin/java"):
        RESOURCE.session()
    (tmp_path / "bin" / "java").mkdir(parents=True)
    with pytest.raises(SparkError, match="which has no program bin/java"):
        RESOURCE.session()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SparkError, match="JAVA_HOME is not set and PATH has no java"):
        RESOURCE.session()


@pytest.mark.parametrize("version", ["17.0.15", "21", "25-ea"])
def test_a_java_that_spark_runs_on_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    program(tmp_path / "bin" / "java", f"echo 'openjdk version \"{version}\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    check_java()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo 3.9", f"which is Python 3.9. Spark's workers need Python {VERSION}"),
        (f"echo {VERSION}; echo 'ModuleNotFoundError: No module named laion_assets' >&2", "cannot import laion_assets"),
        ("echo hello", "not a Python: hello"),
    ],
)
def test_another_python_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", str(program(tmp_path / "python", body)))
    with pytest.raises(SparkError, match=message) as raised:
        RESOURCE.session()
    assert "PYSPARK_PYTHON is" in str(raised.value)
    assert sys.executable in str(raised.value)


def test_the_python_of_this_environment_passes_and_a_missing_one_does_not(tmp_path: Path) -> None:
    check_python(sys.executable, "PYSPARK_PYTHON")
    with pytest.raises(SparkError, match="which is not a program"):
        check_python(str(tmp_path / "none"), "spark.pyspark.python")
    base = shutil.which("python3", path=f"{sys.base_prefix}/bin")
    assert base is not None
    link = tmp_path / "python"
    link.symlink_to(base)  # the same interpreter, without this environment's packages
    with pytest.raises(SparkError, match="cannot import"):
        check_python(str(link), "PYSPARK_PYTHON")


def test_another_spark_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyspark

    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(SparkError, match="not a Spark installation"):
        check_spark_home()
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "spark-core_2.12-3.5.1.jar").touch()
    with pytest.raises(SparkError, match=r"which is 3\.5\.1, and pyspark is"):
        RESOURCE.session()
    monkeypatch.setenv("SPARK_HOME", str(Path(pyspark.__file__).parent))
    check_spark_home()


START = """
from laion_assets.errors import SparkError
from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
try:
    SparkResource(master="local[1]", driver_memory="1g", conf={"spark.executor.memory": "-1g"}).session()
except SparkError as error:
    print(error)
finally:
    end_jvm()
"""


def test_a_failed_start_is_reported_in_one_sentence() -> None:
    """In a process of its own: a JVM is shared by all sessions of a process."""
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True)
    assert done.stdout.startswith("Spark did not start: "), done.stdout + done.stderr
    assert "spark.conf" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_the_reason_is_found_in_a_jvm_s_log() -> None:
    logged = 'WARNING: x\nException in thread "main" java.lang.IllegalArgumentException: basedir.\n\tat org.apache\n'
    assert _first_problem(logged) == "java.lang.IllegalArgumentException: basedir"
    assert _first_problem("WARNING: x\n") == ""
