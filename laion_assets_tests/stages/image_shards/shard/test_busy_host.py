"""One host with 40 % of a shard's rows gets few parallel requests, and no row fails because it waited."""

import threading
import time
from dataclasses import replace

from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

IMAGE = jpeg(64, 48)


def test_a_busy_host_gets_few_parallel_requests_and_every_row_succeeds(tmp_path):
    running_now, most, lock = [0], [0], threading.Lock()

    def busy(sock):
        with lock:
            running_now[0] += 1
            most[0] = max(most[0], running_now[0])
        time.sleep(0.05)
        with lock:
            running_now[0] -= 1
        answer(IMAGE)(sock)

    with running({"/busy.jpg": busy, "/a.jpg": answer(IMAGE)}, stays=True) as site:
        rows = [
            (f"http://big.test/busy.jpg?{n}" if n % 5 < 2 else f"http://h{n}.test/a.jpg", f"row {n}")
            for n in range(150)
        ]
        # The deadline is 1 s, and the last of the busy host's 60 rows waits for longer than that.
        limits = replace(IMAGES.fetch, deadline_s=1.0, connect_timeout_s=1.0, requests_per_host=2)
        images = replace(IMAGES, fetch=limits, threads=32)
        files = []
        for run in ("one", "two"):
            dataset = dataset_of(tmp_path / run, rows, site.resolve, images=images)
            outcome = ShardTask(dataset, 0).run()
            assert (outcome.successes, outcome.reasons) == (150, {})
            files.append(committed_files(dataset))
    assert most[0] == 2
    assert files[0] == files[1]
