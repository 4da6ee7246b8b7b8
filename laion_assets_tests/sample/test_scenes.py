"""Images and captions are deterministic and agree with each other."""

from dataclasses import replace

import numpy as np
import pytest

from laion_assets.sample.scenes import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_SHARE,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    centres,
    combination,
    draw_scene,
    is_held_out,
    render,
)

SCENES = [draw_scene(np.random.default_rng(number)) for number in range(200)]
RED_BLUE = Scene(Thing("circle", "red", "small"), "left of", Thing("square", "blue", "large"), "grey")


def test_the_caption_is_plain_words() -> None:
    assert RED_BLUE.caption == "a small red circle left of a large blue square on a grey background"
    assert RED_BLUE.captions[3] == "a red circle left of a blue square"
    assert RED_BLUE.swapped.captions[3] == "a blue square left of a red circle"
    assert RED_BLUE.inverted.captions[3] == "a blue square right of a red circle"


def test_scenes_have_enough_shapes_colours_and_relations() -> None:
    assert len(SHAPES) >= 6
    assert len(COLOURS) >= 8
    assert len(SIZES) >= 2
    assert len(RELATIONS) >= 4
    assert len(BACKGROUNDS) >= 4


@pytest.mark.parametrize(("width", "height"), [(64, 64), (256, 256), (320, 200), (200, 320), (4_000, 2), (1, 1)])
def test_image_has_the_requested_size_and_is_reproducible(width: int, height: int) -> None:
    for scene in SCENES[:5]:
        pixels = render(scene, width, height)
        assert pixels.shape == (height, width, 3)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, render(scene, width, height))


def test_another_seed_draws_another_image() -> None:
    assert not np.array_equal(render(RED_BLUE, 64, 64), render(replace(RED_BLUE, seed=1), 64, 64))


@pytest.mark.parametrize("scene", SCENES[:60], ids=lambda scene: scene.captions[3])
def test_the_colours_are_where_the_caption_says(scene: Scene) -> None:
    pixels = render(scene, 240, 180).astype(float)
    first, second = centres(scene)
    horizontal, vertical = second[0] - first[0], second[1] - first[1]
    assert {
        "left of": horizontal > 0.3,
        "right of": horizontal < -0.3,
        "above": vertical > 0.3,
        "below": vertical < -0.3,
    }[scene.relation]
    for thing, (x, y) in zip((scene.first, scene.second), (first, second), strict=True):
        reach = 0.86 * SIZES[thing.size] * 180 if thing.shape == "ring" else 0
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        rows = (y * 180 + reach * np.sin(angles)).round().astype(int)
        columns = (x * 240 + reach * np.cos(angles)).round().astype(int)
        mean = np.mean(
            [pixels[r - 1 : r + 2, c - 1 : c + 2].mean((0, 1)) for r, c in zip(rows, columns, strict=True)], 0
        )
        nearest = min(COLOURS, key=lambda colour: float(np.abs(mean - COLOURS[colour]).sum()))
        assert nearest == thing.colour


def test_shapes_and_sizes_cover_what_they_should() -> None:
    def covered(shape: str, size: str) -> float:
        scene = Scene(Thing(shape, "red", size), "left of", Thing("cross", "blue", "small"), "white")
        left = render(scene, 200, 200)[:, :100].astype(int)
        return float((left[..., 0] - left[..., 2] > 80).sum())

    for shape in SHAPES:
        assert 2 < covered(shape, "large") / covered(shape, "small") < 4.5
    areas = {shape: covered(shape, "large") for shape in SHAPES}
    assert areas["square"] > areas["ring"] > areas["star"]
    assert areas["circle"] == pytest.approx(np.pi * 40**2, rel=0.05)


def test_held_out_combinations_are_the_same_from_either_object() -> None:
    for scene in SCENES:
        assert combination(scene) == combination(scene.inverted)
        assert combination(scene) != combination(scene.swapped)
        assert is_held_out(scene) == is_held_out(scene.inverted)
    share = np.mean([is_held_out(draw_scene(np.random.default_rng(n))) for n in range(2_000)])
    assert share == pytest.approx(1 / HELD_OUT_SHARE, abs=0.03)


def test_scenes_can_be_drawn_from_training_or_held_out_combinations() -> None:
    rng = np.random.default_rng(3)
    assert all(is_held_out(draw_scene(rng, held_out=True)) for _ in range(50))
    assert not any(is_held_out(draw_scene(rng, held_out=False)) for _ in range(50))
