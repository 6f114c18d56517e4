"""Hue, saturation and value: what OpenCV 4.11 gave for the same pixels."""

import colorsys

import numpy as np

from pipelines.colour import to_hsv, to_rgb

RGB = [
    [217, 163, 130], [69, 78, 10], [19, 4, 44], [208, 166, 233], [128, 155, 248],
    [186, 161, 139], [143, 239, 71], [208, 171, 0], [100, 219, 141], [8, 195, 186],
]  # fmt: skip
HSV = [
    [11, 102, 217], [34, 222, 78], [131, 232, 44], [139, 73, 233], [113, 123, 248],
    [14, 64, 186], [47, 179, 239], [25, 255, 208], [70, 139, 219], [89, 245, 195],
]  # fmt: skip
"""cv2.cvtColor(..., COLOR_RGB2HSV) of each."""

BACK = {
    (0, 255, 255): (255, 0, 0),
    (30, 128, 200): (200, 200, 99),
    (60, 1, 77): (76, 77, 76),
    (100, 39, 255): (216, 242, 255),
    (100, 170, 114): (38, 88, 114),
    (179, 250, 9): (9, 0, 0),
    (146, 21, 45): (44, 41, 45),
    (42, 46, 205): (190, 205, 168),
    (156, 149, 10): (10, 4, 8),
    (16, 85, 110): (110, 92, 73),
    (111, 122, 67): (34, 44, 67),
    (28, 177, 188): (188, 179, 57),
    (5, 29, 115): (115, 104, 101),
    (70, 227, 132): (14, 132, 53),
}
"""cv2.cvtColor(..., COLOR_HSV2RGB) of images of one colour, 64 x 64 pixels."""


def pixels(values):
    return np.array([values], dtype=np.uint8)


def test_colours_have_opencvs_hue_saturation_and_value():
    assert to_hsv(pixels(RGB)).tolist() == [HSV]


def test_hue_saturation_and_value_have_opencvs_colours():
    assert to_rgb(pixels(list(BACK))).tolist() == [[list(rgb) for rgb in BACK.values()]]


def test_grey_stays_grey_and_black_has_no_hue():
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    hsv = to_hsv(grey)
    assert (hsv[..., :2] == 0).all()
    assert (hsv[..., 2] == np.arange(256)).all()
    assert (to_rgb(hsv) == grey).all()


def test_both_ways_are_near_the_exact_formulas():
    rgb = np.random.default_rng(0).integers(0, 256, (1, 500, 3)).astype(np.uint8)
    exact = np.array([colorsys.rgb_to_hsv(*(colour / 255)) for colour in rgb[0]]) * (180, 255, 255)
    apart = np.abs(to_hsv(rgb)[0] - exact)
    apart[:, 0] = np.minimum(apart[:, 0], 180 - apart[:, 0])
    assert apart.max() <= 1.0
    back = to_rgb(to_hsv(rgb)).astype(int)
    assert np.abs(back - rgb).max() <= 10
    assert np.abs(back - rgb).mean() < 2
