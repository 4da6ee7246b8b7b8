"""The Spark cluster of the tests has two executors, each a JVM, and leaves no process behind."""

import json
import subprocess
import sys

import psutil
import pytest

from laion_assets_tests.spark_cluster import Cluster, environment

pytestmark = pytest.mark.cluster

DRIVER = """
import json, sys
from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
session = SparkResource(master=sys.argv[1], driver_memory="512m", conf=json.loads(sys.argv[2])).session()
def where(numbers):
    import os, time, laion_assets
    time.sleep(1)
    yield os.getppid(), sum(numbers)
found = session.sparkContext.parallelize(range(10), 2).mapPartitions(where).collect()
print(len({parent for parent, _ in found}), sum(total for _, total in found))
end_jvm()
"""


def test_a_job_runs_on_both_workers(spark_cluster: Cluster) -> None:
    done = spark_cluster.run(DRIVER, json.dumps(spark_cluster.conf))
    assert done.stdout.split() == ["2", "45"], done.stderr


KILLED = """
import os, signal, sys
from pathlib import Path
from laion_assets_tests.spark_cluster import standalone_cluster
with standalone_cluster(Path(sys.argv[1]), workers=1) as cluster:
    print(*[process.pid for process in cluster.processes], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_cluster_ends_when_the_test_run_is_killed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, env=environment())
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2, done.stderr
    living = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    assert psutil.wait_procs(living, 10)[1] == []
