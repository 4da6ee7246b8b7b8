"""Resizing whole batches matches the models' own transforms for one image."""

import numpy as np
import pytest
import torch
from PIL import Image

from laion_assets.models.preprocessing import Preprocessing, read_preprocessing
from laion_assets.models.torchvision_shim import ensure_torchvision
from laion_assets_tests.stages.clip_embeddings.small_dataset import random_model

ensure_torchvision()
from torchvision import transforms  # noqa: E402  (importable once its operators are declared)

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def open_clip_transform(size: int, resize_mode: str) -> transforms.Compose:
    from open_clip.transform import image_transform

    return image_transform(size, is_train=False, mean=MEAN, std=STD, resize_mode=resize_mode)


def photograph(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * width)
    small = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    noise = rng.normal(0, 12, (height, width, 3))
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(256, 256), (256, 341), (341, 256), (64, 64), (50, 40), (224, 224), (225, 300)])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_a_batch_is_resized_as_pillow_resizes_one(shape: tuple[int, int], mode: str) -> None:
    transform = open_clip_transform(224, mode)
    preprocessing = read_preprocessing(transform)
    assert preprocessing == Preprocessing(224, mode == "squash", "bicubic", MEAN, STD)
    pixels = photograph(*shape)
    expected = transform(Image.fromarray(pixels))
    found = preprocessing.normalize(preprocessing.resize(torch.from_numpy(pixels[None])), torch.float32)[0]
    assert found.shape == expected.shape
    levels = (found - expected).abs() * 255 * torch.tensor(STD).view(3, 1, 1)
    # Pillow rounds and clamps between its two passes; where it clamps, a few of 255 levels make the difference.
    assert levels.max() <= 5.01
    assert levels.mean() < 0.4


def test_the_float_filter_of_a_gpu_produces_the_same_levels() -> None:
    """Without a GPU, torch's float filter on the CPU is tested instead: it has the same formula."""
    from torch.nn import functional

    preprocessing = read_preprocessing(open_clip_transform(224, "shortest"))
    assert preprocessing is not None
    pixels = torch.from_numpy(photograph(256, 256)[None])
    floats = functional.interpolate(
        pixels.permute(0, 3, 1, 2).float(), size=(224, 224), mode="bicubic", antialias=True, align_corners=False
    )
    difference = floats.clamp(0, 255).round() - preprocessing.resize(pixels).float()
    assert difference.abs().max() <= 5
    assert difference.abs().mean() < 0.4


@pytest.mark.parametrize(
    "transform",
    [
        lambda image: image,
        transforms.Compose([transforms.ToTensor()]),
        transforms.Compose([transforms.Resize(64), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]),
        transforms.Compose(
            [
                transforms.Resize(64, interpolation=transforms.InterpolationMode.LANCZOS),
                transforms.CenterCrop(64),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        ),
        open_clip_transform(224, "longest"),
    ],
)
def test_unknown_transforms_are_left_alone(transform: object) -> None:
    assert read_preprocessing(transform) is None  # type: ignore[arg-type]


def test_vectors_of_batches_are_those_of_the_transform() -> None:
    model = random_model()
    pixels = np.stack([photograph(256, 256), photograph(256, 256)[::-1]])
    batched = torch.nn.functional.normalize(model.pixel_vectors(torch.from_numpy(pixels.copy())), dim=1)
    alone = model.encode_images(torch.stack([model.preprocess(Image.fromarray(one)) for one in pixels]))
    assert (batched.numpy() * alone).sum(axis=1).min() > 0.9999
