"""Shard tasks in a real Spark cluster: the same bytes, events as shards finish, and executors are killed."""

import json
import pickle
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from laion_assets.errors import LocalFailureError
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store
from laion_assets_tests.spark_cluster import Cluster, environment
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

SHARDS = 8
DRIVER = """
import json, pickle, sys, time
from laion_assets.errors import ShardError
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
dataset, failing = pickle.load(open(sys.argv[2], "rb"))
spark = SparkResource(master=sys.argv[1], driver_memory="512m", conf=json.loads(sys.argv[3]))
on_commit = lambda shard, manifest: print("committed", shard, time.monotonic(), flush=True)
log = lambda line: print("logged", line, flush=True)
build_image_shards(dataset, range(dataset.layout.shards), log, on_commit, spark=spark.session)
if failing:
    from laion_assets.workers.spark_tasks import run_tasks_in_spark
    on_done = lambda outcome: print("kept", outcome.shard, flush=True)
    failures = run_tasks_in_spark(failing, spark.session(), on_done, name="stubs")
    print("failed", *[f"{failure.number}:{failure.kind}" for failure in failures], flush=True)
end_jvm()
"""


def test_shards_built_in_spark_equal_those_of_one_process(spark, tmp_path):
    pages = {f"/{n}.jpg": answer(jpeg(90 + n, 80, n)) for n in range(6)}
    rows = [(f"http://photos.test{path}", path) for path in pages]
    committed = []
    with running(pages) as site:
        here, there = (dataset_of(tmp_path / name, rows, site.resolve, shards=3) for name in ("here", "there"))
        for shard in range(3):
            ShardTask(here, shard).run()
        there = replace(there, images=replace(there.images, distributor="spark", threads=1))
        build_image_shards(there, range(3), str, lambda shard, _: committed.append(shard), spark=lambda: spark)
    assert sorted(committed) == [0, 1, 2]
    assert committed_files(there) == committed_files(here)


def test_shards_refused_for_local_failures_stop_the_run_in_spark(spark, tmp_path):
    rows = [(f"http://h{n}.test/{n}.jpg", str(n)) for n in range(48)]
    with running(dict.fromkeys((f"/{n}.jpg" for n in range(48)), answer(b"<html>Log in.</html>"))) as site:
        dataset = dataset_of(tmp_path, rows, site.resolve, shards=6)
        dataset = replace(dataset, images=replace(dataset.images, distributor="spark"))
        with pytest.raises(LocalFailureError, match=r"stopped early: 3 of 6 shards .* captive portal"):
            build_image_shards(dataset, range(6), str, spark=lambda: spark)
    states = DatasetStatus(dataset).states(IMAGE_SHARDS)
    assert {state.state for state in states} == {"missing"}
    assert sum(state.local_failure for state in states) >= 3


@pytest.mark.cluster
def test_shards_built_in_spark_while_an_executor_is_killed_equal_those_of_one_process(spark_cluster: Cluster, tmp_path):
    from laion_assets_tests.workers.test_worker_pool import Stub

    def late(talk):
        def talk_later(sock):
            time.sleep(0.4)
            talk(sock)

        return talk_later

    pages = {f"/{n}.jpg": late(answer(jpeg(90 + n, 80, n))) for n in range(4 * SHARDS)}
    rows = [(f"http://photos.test{path}", path) for path in pages]
    with running(pages) as site:
        here = dataset_of(tmp_path / "here", rows, site.resolve, shards=SHARDS)
        for shard in range(SHARDS):
            ShardTask(here, shard).run()
        there = dataset_of(tmp_path / "there", rows, site.resolve, shards=SHARDS)
        there = replace(there, images=replace(there.images, distributor="spark", threads=1))
        failing = [Stub(100), Stub(101, "exit"), Stub(102), Stub(103, "raise"), Stub(104)]
        (tmp_path / "task").write_bytes(pickle.dumps((there, failing)))
        command = spark_cluster.command(DRIVER, str(tmp_path / "task"), json.dumps(spark_cluster.conf))
        with (tmp_path / "log").open("w") as log:
            driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
        stopping = threading.Timer(150, driver.kill)
        stopping.start()
        lines, killed = [], None
        for line in driver.stdout:
            lines.append(line.split())
            if lines[-1][0] == "committed" and killed is None and (executors := spark_cluster.executors()):
                killed = executors[0]
                killed.kill()
        stopping.cancel()
        assert driver.wait(20) == 0, (tmp_path / "log").read_text()[-3000:]
    assert killed is not None, lines
    events = [(int(line[1]), float(line[2])) for line in lines if line[0] == "committed"]
    assert sorted(shard for shard, _ in events) == list(range(SHARDS))
    assert events[-1][1] - events[0][1] > 1, "events come as shards finish"
    assert committed_files(there) == committed_files(here)
    assert {DatasetStatus(there).state(IMAGE_SHARDS, shard).state for shard in range(SHARDS)} == {"complete"}
    assert Store.of(there).names("staging/image_shards") == []
    assert any(line[0] == "logged" and "8/8" in line for line in lines)
    assert [line[1:] for line in lines if line[0] == "failed"] == [["101:WorkerDied", "103:ShardError"]]
    assert sorted(line[1] for line in lines if line[0] == "kept") == ["100", "102", "104"]
