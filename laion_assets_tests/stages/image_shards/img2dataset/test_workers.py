"""The tasks of this engine in the worker pool, killed and run again, and in Spark."""

import contextlib
from dataclasses import replace

import psutil

from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.workers.pool import run_tasks
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.img2dataset.test_engine import STOCK
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

PAGES = {f"/{n}.jpg": answer(jpeg(200 + n, 150, n)) for n in range(24)}
ROWS = [(f"http://photos.test{path}", f"image {path}") for path in PAGES]


def test_killed_run_commits_no_half_shard_and_the_next_one_builds_the_same_files(tmp_path):
    with running(dict(PAGES)) as site:
        whole = dataset_of(tmp_path / "whole", ROWS, site.resolve, shards=4, images=STOCK)
        build_image_shards(replace(whole, images=replace(STOCK, processes=1)), range(4), str)

        killed = dataset_of(tmp_path / "killed", ROWS, site.resolve, shards=4, images=STOCK)

        def kill_the_worker(sock):
            site.pages["/20.jpg"] = PAGES["/20.jpg"]
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "laion_assets.workers.child" in " ".join(process.cmdline()):
                        process.kill()

        site.pages["/20.jpg"] = kill_the_worker
        tasks = [ShardTask(killed, shard) for shard in range(4)]
        failures = run_tasks(tasks, 1)
        assert [(failure.number, failure.kind) for failure in failures] == [(3, "WorkerDied")]
        assert not any(name.startswith("00003") for name in committed_files(killed))
        again = []
        assert run_tasks(tasks, 1, again.append) == []
        assert [outcome.shard for outcome in again if not outcome.skipped] == [3]
    assert committed_files(killed) == committed_files(whole)


def test_shards_of_spark_are_those_of_one_process(spark, tmp_path):
    with running(dict(PAGES)) as site:
        here, there = (dataset_of(tmp_path / name, ROWS, site.resolve, 2, STOCK) for name in ("here", "there"))
        for shard in range(2):
            ShardTask(here, shard).run()
        there = replace(there, images=replace(STOCK, distributor="spark"))
        build_image_shards(there, range(2), str, spark=lambda: spark)
    assert committed_files(there) == committed_files(here)
