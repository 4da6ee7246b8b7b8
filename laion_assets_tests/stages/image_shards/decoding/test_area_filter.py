"""The filter `area`: each output pixel is the mean of the area that it covers, as in `cv2.INTER_AREA`."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_assets.stages.image_shards.decoding import area_filter
from laion_assets.stages.image_shards.decoding.area_filter import area_matrix, resize_area


@given(st.integers(2, 400), st.sampled_from([1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1]), st.data())
@settings(max_examples=60)
def test_every_output_pixel_averages_an_equal_part(pixels: int, last: float, data: st.DataObject) -> None:
    extent = pixels - 1 + last
    made = data.draw(st.integers(1, int(extent)))
    matrix = area_matrix(pixels, extent, made).toarray().astype(float)
    covered = matrix * (extent / made)
    assert np.allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(covered.sum(axis=0)[:-1], 1, atol=1e-4)
    assert covered.sum(axis=0)[-1] == pytest.approx(last, abs=1e-4)
    assert (matrix >= 0).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "target"),
    [((301, 407), (128, 95)), ((640, 427), (256, 171)), ((257, 300), (256, 256)), ((999, 3), (256, 1))],
)
def test_the_result_equals_opencvs_filter(size: tuple[int, int], target: tuple[int, int], channels: int) -> None:
    """At most one pixel in 5,000 is rounded differently, by one level."""
    image = np.random.default_rng(1).integers(0, 256, (size[1], size[0], channels), np.uint8)
    image = image[..., 0] if channels == 1 else image
    wanted = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
    found = resize_area(image, *target)
    difference = np.abs(found.astype(int) - wanted)
    assert found.shape == wanted.shape
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 1 / 5_000


def test_an_integer_factor_produces_the_exact_pixels_of_opencv() -> None:
    image = np.random.default_rng(2).integers(0, 256, (512, 768, 3), np.uint8)
    assert np.array_equal(resize_area(image, 256, 256), cv2.resize(image, (256, 256), interpolation=cv2.INTER_AREA))


def test_a_fraction_of_the_last_row_counts_as_a_fraction() -> None:
    """Three rows, where the last one counts as half: 2.5 rows become two pixels of 1.25 rows each."""
    image = np.array([[0], [100], [200]], np.uint8)
    found = resize_area(image, 1, 2, extent=(1.0, 2.5))
    assert area_matrix(3, 2.5, 2).toarray() == pytest.approx(np.array([[0.8, 0.2, 0], [0, 0.6, 0.4]]))
    assert found[0, 0] < 20 < 140 < found[1, 0]


def test_sharpening_does_not_change_flat_images() -> None:
    flat = np.full((67, 91, 3), 137, np.uint8)
    assert (resize_area(flat, 30, 20, extent=(90.5, 66.5)) == 137).all()
    assert np.allclose(area_matrix(40, 39.5, 7, True).toarray().sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("extent", [None, (612.5, 433.25)])
@pytest.mark.parametrize("band_bytes", [1, 50_000, 1_000_000])
def test_bands_of_rows_have_the_same_pixels(monkeypatch, band_bytes, extent) -> None:
    image = np.random.default_rng(3).integers(0, 256, (434, 613, 3), np.uint8)
    at_once = resize_area(image, 256, 181, extent)
    products = []
    monkeypatch.setattr(area_filter, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(area_filter, "_BAND_BYTES", band_bytes)
    array = area_filter.sparse.csr_array
    monkeypatch.setattr(
        area_filter.sparse, "csr_array", lambda *parts, **shape: products.append(1) or array(*parts, **shape)
    )
    assert np.array_equal(resize_area(image, 256, 181, extent), at_once)
    assert len(products) > 1
