"""The soak run detects growth. `make soak` runs it for longer."""

import os
from xml.etree import ElementTree

from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.workers.task import ignore
from laion_assets_tests.soak import soak as soaking
from laion_assets_tests.soak.soak import Sample, problems, soak, write


class LeakingTask(ShardTask):
    """A shard task that leaks one file descriptor."""

    def run(self, send=ignore):
        os.open(os.devnull, os.O_RDONLY)
        return super().run(send)


def series(process, **growth):
    level = {"rss_mib": 300.0, "threads": 20, "descriptors": 40, "children": 1}
    return [
        Sample(float(second), process, **{name: value + growth.get(name, 0) * second for name, value in level.items()})
        for second in range(0, 600, 2)
    ]


def test_a_run_without_growth_has_no_problem():
    assert problems([*series("parent"), *series("worker 1", rss_mib=0.01)]) == []


def test_growth_is_reported_with_its_measure_and_process():
    for measure, rate in (("rss_mib", 0.3), ("threads", 0.02), ("descriptors", 0.05), ("children", 0.01)):
        (found,) = problems([*series("parent"), *series("worker 1", **{measure: rate})])
        assert f"{measure} of worker 1 grew from" in found


def test_a_lost_worker_is_reported():
    (found,) = problems([*series("parent"), *series("worker 1")[:100]])
    assert found == "worker 1 existed only from 0 s to 198 s"


def test_the_samples_are_written_as_a_table_and_a_plot(tmp_path):
    table, plot = write([*series("parent"), *series("worker 1")], tmp_path)
    lines = table.read_text().splitlines()
    assert lines[:2] == ["seconds,process,rss_mib,threads,descriptors,children", "0.0,parent,300.0,20,40,1"]
    assert len(lines) == 601
    drawn = ElementTree.parse(plot).getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 8


def test_a_leak_of_one_descriptor_per_shard_is_detected_in_a_real_run(tmp_path, monkeypatch):
    monkeypatch.setattr(soaking, "EVERY_S", 0.2)
    samples, built, failures = soak(0.35, 1, tmp_path, count_rows=8, task=LeakingTask)
    assert failures == []
    assert built > 30
    found = problems(samples)
    assert any("descriptors of worker" in problem for problem in found), found
    assert not any("of parent" in problem for problem in found), found
