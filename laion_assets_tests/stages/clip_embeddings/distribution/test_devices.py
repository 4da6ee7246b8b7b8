"""A Spark task uses the GPU that Spark assigned to it; `all` is every GPU of the machine."""

import pytest
import torch

from laion_assets.errors import ModelError, SettingError
from laion_assets.stages.clip_embeddings.distribution.devices import choose_spark_device, find_local_devices
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings


@pytest.mark.parametrize(
    ("wanted", "addresses", "device"),
    [
        ("auto", ["0"], "cuda:0"),
        ("auto", ["1"], "cuda:1"),
        ("cuda", ["13"], "cuda:13"),
        ("auto", [], "cpu"),
        ("cpu", [], "cpu"),
        ("cpu", ["1"], "cpu"),
    ],
)
def test_a_spark_task_uses_the_assigned_gpu_and_without_one_the_cpu(
    wanted: str, addresses: list[str], device: str
) -> None:
    assert choose_spark_device(wanted, addresses) == device


@pytest.mark.parametrize(
    ("wanted", "addresses", "message"),
    [
        ("cuda", [], r"assigned no GPU to the task.*spark\.task\.resource\.gpu\.amount"),
        ("auto", ["0", "1"], r"GPUs 0, 1 to one task.*amount in spark\.conf to 1"),
        ("auto", ["GPU-5fd4"], r"'GPU-5fd4', which is not a CUDA device number.*discovery script"),
        ("cuda", ["²"], "not a CUDA device number"),
    ],
)
def test_an_assignment_that_a_task_cannot_use_is_refused(wanted: str, addresses: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        choose_spark_device(wanted, addresses)


def test_named_devices_are_used_in_their_order() -> None:
    assert find_local_devices(("cuda:1", "cpu", "cpu")) == ("cuda:1", "cpu", "cpu")


def test_all_devices_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ModelError, match=r"embeddings\.devices is all, and torch finds no GPU"):
        find_local_devices(("all",))


def test_all_devices_are_the_gpus_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert find_local_devices(("all",)) == ("cuda:0", "cuda:1", "cuda:2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": ("gpu",)}, "each item must be cpu, cuda, cuda:N or all"),
        ({"devices": ("auto",)}, "each item must be cpu, cuda, cuda:N or all"),
        ({"devices": ("all", "cuda:1")}, "all already means every GPU"),
        (
            {"devices": ("cuda:0", "cpu"), "precision": "fp16"},
            r"precision is fp16 and embeddings\.devices contains cpu",
        ),
        ({"devices": ("cuda:0",), "distributor": "spark"}, "Spark assigns the GPUs.*leave devices empty"),
        ({"device": "cuda:1", "distributor": "spark"}, "set device to auto, cuda or cpu"),
        ({"distributor": "ray"}, "must be pool or spark"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        EmbeddingSettings(**settings)  # type: ignore[arg-type]


def test_a_run_covers_several_files_only_where_it_encodes_several_at_the_same_time() -> None:
    assert EmbeddingSettings().run_size == 1
    assert EmbeddingSettings(devices=("cuda:0",)).run_size == EmbeddingSettings(distributor="spark").run_size == 64
    assert EmbeddingSettings(devices=("cuda:0",), files_per_run=8).run_size == 8
