"""Safety models: the file is checked, its scores are those of the same layers in torch, its digest is required."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.search.results.safety_model import SafetyModel

RNG = np.random.default_rng(3)
WIDTH = 8


def tensors(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Random float32 tensors; `_` in a name stands for a dot."""
    return {name.replace("__", "."): RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write(path: Path, values: dict[str, np.ndarray], **metadata: str) -> Dataset:
    """The sample with a safety model of these tensors."""
    save_file(values, path, metadata=metadata or None)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(SAMPLE, search=replace(SAMPLE.search, safety_model=str(path), safety_model_sha256=digest))


def test_scores_are_those_of_the_same_layers_in_torch(tmp_path: Path) -> None:
    """The architecture of LAION's detector for ViT-L/14, at a smaller width."""
    import torch

    values = tensors(
        linear_1__weight=(6, WIDTH),
        linear_1__bias=(6,),
        linear_2__weight=(5, 6),
        linear_2__bias=(5,),
        linear_10__weight=(1, 5),
        linear_10__bias=(1,),
        norm__mean=(WIDTH,),
    )
    values["norm.variance"] = RNG.uniform(0.5, 2, WIDTH).astype(np.float32)
    model = SafetyModel.of(write(tmp_path / "l14.safetensors", values, name="LAION\x1b[31m"))
    vectors = RNG.standard_normal((5_000, WIDTH)).astype(np.float32)
    x = (torch.from_numpy(vectors) - torch.from_numpy(values["norm.mean"])) / torch.from_numpy(
        values["norm.variance"]
    ).sqrt()
    for name, activation in (("linear_1", torch.relu), ("linear_2", torch.relu), ("linear_10", torch.sigmoid)):
        weight, bias = (torch.from_numpy(values[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        x = activation(torch.nn.functional.linear(x, weight, bias))
    expected = x[:, 0].numpy()
    assert np.allclose(model.scores(vectors), expected, atol=1e-5)
    clear = np.abs(expected - 0.5) > 1e-4
    assert (model.is_unsafe(vectors) == (expected > 0.5))[clear].all()
    assert model.name.isprintable()
    assert "\x1b" not in model.name


def test_activations_are_those_of_the_metadata(tmp_path: Path) -> None:
    values = {"layers.0.weight": -np.eye(1, 2, dtype=np.float32), "layers.3.weight": np.ones((1, 1), np.float32)}
    vector = np.array([[1.0, 0.0]], np.float32)
    relu = SafetyModel.of(write(tmp_path / "a.safetensors", values))
    linear = SafetyModel.of(write(tmp_path / "b.safetensors", values, activations="none, none"))
    assert (relu.scores(vector)[0], linear.scores(vector)[0]) == (0.5, -1.0)
    assert relu.name == "a"


def test_score_that_is_not_a_number_hides_its_row(tmp_path: Path) -> None:
    values = {
        "a.weight": np.array([[3e38], [3e38]], np.float32),
        "b.weight": np.array([[3e38, -3e38]], np.float32),
    }
    model = SafetyModel.of(write(tmp_path / "x.safetensors", values, activations="none,none"))
    assert np.isnan(model.scores(np.array([[2.0]], np.float32))).all()
    assert model.is_unsafe(np.array([[2.0]], np.float32)).all()


@pytest.mark.parametrize(
    ("values", "metadata", "message"),
    [
        ({"a.weight": np.ones((2, 4), np.float32)}, {}, "2 outputs, expected 1"),
        ({"a.weight": np.ones((1, 4), np.int32)}, {}, "not finite"),
        ({"a.weight": np.full((1, 4), np.inf, np.float32)}, {}, "not finite"),
        ({"a.weight": np.ones((1, 4), np.float32), "a.bias": np.ones(2, np.float32)}, {}, "bias"),
        ({"a.weight": np.ones((1, 4), np.float32), "b.weight": np.ones((1, 4), np.float32)}, {}, "fit together"),
        ({"a.weight": np.ones((1, 4), np.float32), "gamma": np.ones(4, np.float32)}, {}, "unknown tensor gamma"),
        ({"a.bias": np.ones(1, np.float32)}, {}, "unknown tensor a.bias"),
        ({"a.weight": np.ones((1, 4), np.float32)}, {"activations": "gelu"}, "activations must name"),
        ({"a.weight": np.ones((1, 4), np.float32)}, {"activations": "relu,relu"}, "each of the 1 layers"),
        ({"a.weight": np.ones((1, 4), np.float32), "norm.variance": np.zeros(4, np.float32)}, {}, "above 0"),
    ],
)
def test_file_of_another_form_is_refused(
    tmp_path: Path, values: dict[str, np.ndarray], metadata: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        SafetyModel.of(write(tmp_path / "x.safetensors", values, **metadata))


def test_other_bytes_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    dataset = write(path, {"a.weight": np.ones((1, 4), np.float32)})
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(SettingError, match="has the sha256"):
        SafetyModel.of(dataset)
    path.unlink()
    with pytest.raises(SettingError, match="cannot be read: No such file"):
        SafetyModel.of(dataset)
    path.write_bytes(b"\x80\x04pickle")
    pickled = with_digest(dataset, path)
    with pytest.raises(SettingError, match="not a safetensors file"):
        SafetyModel.of(pickled)


def with_digest(dataset: Dataset, path: Path) -> Dataset:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(dataset, search=replace(dataset.search, safety_model_sha256=digest))


@pytest.mark.parametrize("fields", [{"safety_model": "x"}, {"safety_model_sha256": "0" * 64}])
def test_model_and_digest_belong_together(fields: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="belong together"):
        replace(SAMPLE.search, **fields)
