import numpy as np
import pytest
import torch
from PIL import Image

from sed.resize import enlarge, fit_shortest_edge
from sed.shortest_edge import enlarges, resize_shortest_edge


def noise(width, height):
    generator = np.random.default_rng(width * height)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((640, 480), (853, 640)), ((1, 1), (7, 5)), ((5, 40), (6, 41)), ((33, 20), (66, 40)),
     ((17, 90), (301, 90)), ((90, 17), (90, 301)), ((200, 150), (2560, 640))],
)  # fmt: skip
def test_a_gpu_enlarges_as_pillow_does_bit_for_bit(size, wanted):
    pixels_HW3 = noise(*size)
    expected = Image.fromarray(pixels_HW3).resize(wanted, Image.Resampling.BILINEAR)
    found_HW3 = enlarge(torch.from_numpy(pixels_HW3), *wanted)
    np.testing.assert_array_equal(found_HW3.numpy(), np.asarray(expected))


@pytest.mark.parametrize("size", [(640, 480), (64, 48), (100, 64), (200, 64), (500, 30), (30, 500)])
def test_pixels_are_fitted_as_photos_are(size):
    pixels_HW3 = noise(*size)
    expected = np.asarray(resize_shortest_edge(Image.fromarray(pixels_HW3), 64, 256))
    found_HW3 = fit_shortest_edge(pixels_HW3, 64, 256, torch.device("cpu"))
    np.testing.assert_array_equal(found_HW3.numpy(), expected)
    again_HW3 = fit_shortest_edge(found_HW3.numpy(), 64, 256, torch.device("cpu"))
    assert torch.equal(again_HW3, found_HW3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("size", [(640, 480), (100, 64), (30, 500), (2000, 1500)])
def test_a_gpu_fits_pixels_as_a_cpu_does(size):
    on_cpu, on_gpu = (
        fit_shortest_edge(noise(*size), 64, 256, torch.device(d)) for d in ("cpu", "cuda")
    )
    assert torch.equal(on_gpu.cpu(), on_cpu)


def test_a_photo_is_enlarged_unless_a_side_gets_shorter():
    assert enlarges(640, 480, 640, 2560)
    assert enlarges(853, 640, 640, 2560)
    assert not enlarges(854, 641, 640, 2560)
    assert not enlarges(3000, 300, 640, 2560)
