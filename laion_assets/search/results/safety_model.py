"""A safety model: a small classifier over image vectors, in a file that the operator names with its sha256.

The file is a safetensors file of linear layers, so that loading it runs no code. `X.weight` (out, in) and `X.bias`
(out,) are a layer; the layers are in the order of their names, and the last one has one output, the score. `norm.mean`
and `norm.variance` (in,), if they are there, standardise the vectors first. The metadata entry `activations` names the
activation after each layer, separated by commas: relu, sigmoid or none; without it, sigmoid after the last one and relu
after the others. LAION's two CLIP-based detectors have this form (docs/operations/safety-model.md converts them).
"""

import functools
import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.plain_text import one_line

if TYPE_CHECKING:
    import numpy as np

MAX_BYTES = 200_000_000
"""Maximum size of a file."""
MAX_NAME_CHARS = 80
_ACTIVATIONS = ("relu", "sigmoid", "none")
_BATCH = 4_096


@dataclass(frozen=True)
class Layer:
    """A linear layer: weight (out, in), bias (out,), both float32, and the name of its activation."""

    weight: "np.ndarray"
    bias: "np.ndarray"
    activation: str


@dataclass(frozen=True)
class SafetyModel:
    """A loaded safety model. A row is hidden if its score, from 0 to 1, is above the threshold."""

    name: str
    sha256: str
    threshold: float
    layers: tuple[Layer, ...]
    mean: "np.ndarray"
    deviation: "np.ndarray"

    @classmethod
    def of(cls, dataset: Dataset) -> "SafetyModel | None":
        """Return the model of `search.safety_model`, None if it is empty. Each file is loaded once in a process.

        Raises SettingError for a file that cannot be used.
        """
        settings = dataset.search
        if not settings.safety_model:
            return None
        return _load(settings.safety_model, settings.safety_model_sha256, settings.safety_threshold)

    @property
    def width(self) -> int:
        """The width of the vectors that it classifies."""
        return int(self.layers[0].weight.shape[1])

    def require_width(self, width: int, dataset: str) -> None:
        """Raise SettingError unless the vectors of a dataset have this model's width."""
        if width != self.width:
            raise SettingError(
                f"The safety model {self.name} is for vectors of width {self.width}, but those of {dataset} have "
                f"{width}. Set search.safety_model to a model for the dataset's CLIP model."
            )

    def describe(self) -> dict[str, Any]:
        """Return name, digest and threshold as a JSON object."""
        return {"name": self.name, "sha256": self.sha256, "threshold": self.threshold}

    def is_unsafe(self, vectors: "np.ndarray") -> "np.ndarray":
        """Return for each image vector of norm 1, (n, width), whether its row must be hidden, (n,) bool.

        A score that is not a number hides its row.
        """
        import numpy as np

        unsafe = np.empty(len(vectors), dtype=bool)
        for start in range(0, len(vectors), _BATCH):
            unsafe[start : start + _BATCH] = ~(self.scores(vectors[start : start + _BATCH]) <= self.threshold)
        return unsafe

    def scores(self, vectors: "np.ndarray") -> "np.ndarray":
        """Return the score of each image vector of norm 1, (n,) float32."""
        import numpy as np

        values = (np.asarray(vectors, np.float32) - self.mean) / self.deviation
        with np.errstate(over="ignore", invalid="ignore"):  # exp of a very unlikely one; inf - inf is not a number
            for layer in self.layers:
                values = values @ layer.weight.T + layer.bias
                if layer.activation == "relu":
                    values = np.maximum(values, 0)
                elif layer.activation == "sigmoid":
                    values = 1 / (1 + np.exp(-values))
        return values[:, 0]


@functools.lru_cache(maxsize=8)
def _load(name: str, sha256: str, threshold: float) -> SafetyModel:
    path = Path(name)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingError(f"search.safety_model {path} is larger than {MAX_BYTES:,} bytes.")
        content = path.read_bytes()
    except OSError as error:
        raise SettingError(f"search.safety_model {path} cannot be read: {error.strerror}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise SettingError(
            f"search.safety_model {path} has the sha256 {digest}, but search.safety_model_sha256 is {sha256}. Use the "
            "right file, or set the digest after you have checked it."
        )
    try:
        title, layers, mean, deviation = _parse(content)
    except ValueError as error:
        raise SettingError(f"search.safety_model {path} is not a safety model: {error}.") from error
    return SafetyModel(title or path.stem, digest, threshold, layers, mean, deviation)


def _parse(content: bytes) -> "tuple[str, tuple[Layer, ...], np.ndarray, np.ndarray]":
    """Return name, layers, mean and standard deviation of a file. Raises ValueError saying what is wrong."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:  # not the format, or no dtype of numpy
        raise ValueError(f"it is not a safetensors file of float16, float32 or float64 ({error})") from error
    for name, tensor in tensors.items():
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise ValueError(f"{one_line(name)[:80]} has values that are not finite floating-point numbers")
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
    values = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
    mean, variance = values.pop("norm.mean", None), values.pop("norm.variance", None)
    weights = sorted((name for name in values if name.endswith(".weight")), key=_natural)
    unknown = set(values) - {name for weight in weights for name in (weight, _bias_of(weight))}
    if unknown or not weights:
        raise ValueError(
            f"unknown tensor {one_line(min(unknown))[:80]}; expected X.weight, X.bias, norm.mean and norm.variance"
            if unknown
            else "it has no tensor X.weight"
        )
    layers = _chain([(values[name], values.get(_bias_of(name))) for name in weights], metadata.get("activations"))
    width = layers[0].weight.shape[1]
    mean = np.zeros(width, np.float32) if mean is None else mean
    variance = np.ones(width, np.float32) if variance is None else variance
    if mean.shape != (width,) or variance.shape != (width,) or (variance <= 0).any():
        raise ValueError(f"norm.mean and norm.variance must have {width} numbers, and variances above 0")
    return one_line(str(metadata.get("name", "")))[:MAX_NAME_CHARS], layers, mean, np.sqrt(variance)


def _chain(pairs: "list[tuple[np.ndarray, np.ndarray | None]]", activations: str | None) -> tuple[Layer, ...]:
    """Return the layers, after their shapes and activations are checked. Raises ValueError."""
    import numpy as np

    names = activations.split(",") if activations else ["relu"] * (len(pairs) - 1) + ["sigmoid"]
    names = [name.strip() for name in names]
    if len(names) != len(pairs) or not set(names) <= set(_ACTIVATIONS):
        raise ValueError(f"activations must name one of {', '.join(_ACTIVATIONS)} for each of the {len(pairs)} layers")
    if any(weight.ndim != 2 for weight, _ in pairs):
        raise ValueError("each weight must have two dimensions")
    layers = tuple(
        Layer(weight, np.zeros(len(weight), np.float32) if bias is None else bias, name)
        for (weight, bias), name in zip(pairs, names, strict=True)
    )
    if any(layer.bias.shape != (len(layer.weight),) for layer in layers):
        raise ValueError("a bias has not as many numbers as its layer has outputs")
    if any(before.weight.shape[0] != after.weight.shape[1] for before, after in itertools.pairwise(layers)):
        raise ValueError("the layers do not fit together, in the order of their names")
    if len(layers[-1].weight) != 1:
        raise ValueError(f"the last layer has {len(layers[-1].weight)} outputs, expected 1")
    return layers


def _bias_of(weight: str) -> str:
    return weight.removesuffix("weight") + "bias"


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which layers.10 comes after layers.3."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]
