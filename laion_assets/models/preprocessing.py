"""A model's image preprocessing as numbers, so that it can run on whole batches on the model's device.

CLIP models come with a torchvision transform: resize (bicubic, on the Pillow image), crop, scale to [0, 1], normalize.
`read_preprocessing` reads its steps. `Preprocessing.resize` and `normalize` do the same to a batch of uint8 pixels.
Torch's antialiased bicubic filter is Pillow's. After rounding to whole levels, the vectors have a cosine of at least
0.9999 with those of the transform.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_MODES = {"bicubic": "bicubic", "bilinear": "bilinear"}
_PILLOW_MODES = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of its filters, which transformers uses."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize to `size` px (the shorter edge, then a centre crop; both edges if `squash`), and normalize per channel."""

    size: int
    squash: bool
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width after the resize of an image of this size, as torchvision computes them."""
        if self.squash:
            return self.size, self.size
        if height <= width:
            return self.size, int(self.size * width / height)
        return int(self.size * height / width), self.size

    def resize(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Resize (n, h, w, 3) uint8 to (n, 3, size, size) whole levels: uint8 on a CPU, float32 on a GPU."""
        import torch
        from torch.nn import functional

        height, width = pixels.shape[1:3]
        levels = pixels.permute(0, 3, 1, 2)
        target = self.resized_shape(height, width)
        if target != (height, width):
            # On a CPU torch has a fast filter for uint8, which rounds its result. On a GPU it has one for floats only.
            on_cpu = pixels.device.type == "cpu"
            levels = functional.interpolate(
                levels if on_cpu else levels.float(), size=target, mode=self.mode, antialias=True, align_corners=False
            )
            if not on_cpu:
                levels = levels.clamp_(0, 255).round_()
        if levels.dtype != torch.uint8 and pixels.device.type == "cpu":
            levels = levels.to(torch.uint8)
        top, left = (round((edge - self.size) / 2.0) for edge in target)
        return levels[:, :, top : top + self.size, left : left + self.size]

    def normalize(self, levels: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
        """Normalize (n, 3, size, size) levels of 0 to 255 per channel, as the model's input of this dtype."""
        scale, shift = _scale_and_shift(self.mean, self.std, levels.device)
        return levels.float().mul_(scale).add_(shift).to(dtype)


@functools.lru_cache(maxsize=16)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], device: "torch.device"
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return the factor and the offset of (level / 255 - mean) / std: (1, 3, 1, 1) each, kept on the device."""
    import torch

    scale = [1 / (255 * deviation) for deviation in std]
    shift = [-middle / deviation for middle, deviation in zip(mean, std, strict=True)]
    return tuple(torch.tensor(part, device=device).view(1, -1, 1, 1) for part in (scale, shift))  # type: ignore[return-value]


class ProcessorTransform:
    """The image processor of a transformers model as a function of one image."""

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor

    def __call__(self, image: Any) -> "torch.Tensor":
        """Preprocess an image: (1, 3, h, w) float32."""
        pixels: torch.Tensor = self.image_processor(image, return_tensors="pt").pixel_values
        return pixels


def _read_processor(processor: Any) -> Preprocessing | None:
    """Read the steps of a transformers image processor that squashes images to a square, as SigLIP's does."""
    size = processor.size if isinstance(processor.size, dict) else {}
    mode = _PILLOW_MODES.get(int(processor.resample))
    is_standard = processor.do_resize and processor.do_rescale and processor.do_normalize
    if (
        not is_standard
        or getattr(processor, "do_center_crop", False)
        or set(size) != {"height", "width"}
        or size["height"] != size["width"]
        or abs(processor.rescale_factor * 255 - 1) > 1e-6
        or mode is None
    ):
        return None
    return Preprocessing(
        int(size["height"]), True, mode, tuple(map(float, processor.image_mean)), tuple(map(float, processor.image_std))
    )


def read_preprocessing(transform: Callable[[Any], Any]) -> Preprocessing | None:
    """Read the steps of a model's transform; None if it has other steps than those below.

    Supported is torchvision's `Compose` of Resize, CenterCrop, ToTensor and Normalize, with functions that convert to
    RGB in between, as open_clip and OpenAI's package build it, and transformers' processor of SigLIP.
    """
    if isinstance(transform, ProcessorTransform):
        return _read_processor(transform.image_processor)
    steps = getattr(transform, "transforms", None)
    if not isinstance(steps, list):
        return None
    by_name = {type(step).__name__: step for step in steps if type(step).__name__ != "function"}
    if set(by_name) not in ({"Resize", "CenterCrop", "ToTensor", "Normalize"}, {"Resize", "ToTensor", "Normalize"}):
        return None
    resize, normalize = by_name["Resize"], by_name["Normalize"]
    mode = _MODES.get(getattr(resize.interpolation, "value", ""))
    if mode is None or getattr(resize, "max_size", None) is not None or not getattr(resize, "antialias", True):
        return None
    squash = not isinstance(resize.size, int)
    edges = {resize.size} if isinstance(resize.size, int) else set(resize.size)
    if not squash:
        crop = by_name.get("CenterCrop")
        if crop is None:
            return None
        edges |= {crop.size} if isinstance(crop.size, int) else set(crop.size)
    if len(edges) != 1 or (squash and "CenterCrop" in by_name):
        return None
    return Preprocessing(
        int(edges.pop()), squash, mode, tuple(map(float, normalize.mean)), tuple(map(float, normalize.std))
    )
