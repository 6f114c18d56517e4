"""Each change of a training image against its definition."""

import colorsys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.augment import (
    NO_CLASS,
    Augmentation,
    brighten,
    crop,
    flip,
    is_mixed,
    nearest,
    pad,
    resize,
    scale_saturation,
    scale_values,
    turn_hue,
    vary_colours,
)
from pipelines.colour import to_hsv, to_rgb


def numbered(height, width):
    """An image whose pixels say where they are, and labels that say it too."""
    places = np.arange(height * width).reshape(height, width)
    image = np.stack([places % 251, places // 251, places * 0], axis=2).astype(np.uint8)
    return image, places.astype(np.int32)


def noise(height=8, width=9):
    return np.random.default_rng(5).integers(0, 256, (height, width, 3)).astype(np.uint8)


class Always:
    """A generator that says what it is told."""

    def __init__(self, *, uniform=None, integers=None, random=0.0):
        self.said = {"uniform": uniform, "integers": integers, "random": random}
        self.asked = {}

    def __getattr__(self, name):
        def say(*bounds, **options):
            self.asked[name] = (*bounds, *options.items())
            return self.said[name]

        return say


@pytest.mark.parametrize("size", [(7, 5), (3, 11), (40, 40), (13, 27)])
def test_masks_are_resized_as_torch_does(size):
    mask_HW = np.random.default_rng(0).integers(0, 9, (13, 27))
    wanted = F.interpolate(torch.from_numpy(mask_HW)[None, None].float(), size, mode="nearest")
    assert (nearest(mask_HW, *size) == wanted[0, 0].numpy()).all()


@pytest.mark.weights
def test_photos_and_labels_are_resized_as_published(shared_dir):
    bounds = [(40, 100), (40, 100), (96, 400), (40, 2560)]
    with np.load(shared_dir / "spec/goldens/misc_resize_shortest_edge.npz") as golden:
        for case, (short_side, long_side) in enumerate(bounds):
            photo = Image.fromarray(golden[f"in{case}"])
            labels_HW = golden[f"seg_in{case}"]
            image, labels = resize(photo, labels_HW, short_side, long_side)
            assert (image == golden[f"out{case}"]).all()
            assert (labels == golden[f"seg_out{case}"]).all()


def test_the_shorter_side_gets_its_length_and_the_longer_one_is_bounded():
    photo, labels = Image.new("RGB", (400, 200)), np.zeros((200, 400), np.int32)
    assert resize(photo, labels, 100, 2666)[0].shape == (100, 200, 3)
    assert resize(photo, labels, 100, 150)[1].shape == (75, 150)
    with pytest.raises(ValueError, match="400 x 200 pixels, its mask 400 x 100"):
        resize(photo, labels[:100], 100, 2666)


def test_a_crop_keeps_image_and_mask_together_and_reaches_every_corner():
    image, labels = numbered(50, 70)
    tops = set()
    for seed in range(60):
        part, part_labels = crop(image, labels, 32, 1.0, np.random.default_rng(seed))
        assert part.shape == (32, 32, 3)
        assert (part[..., 0] == part_labels % 251).all()
        assert (part[..., 1] == part_labels // 251).all()
        tops.add(int(part_labels[0, 0]) // 70)
    assert min(tops) == 0
    assert max(tops) == 50 - 32
    assert len(tops) > 12


def test_a_side_that_is_shorter_than_the_crop_is_kept():
    image, labels = numbered(20, 70)
    part, part_labels = crop(image, labels, 32, 1.0, np.random.default_rng(0))
    assert part.shape == (20, 32, 3)
    assert part_labels[0, 0] < 70


def test_a_crop_that_one_class_fills_is_drawn_anew():
    labels = np.zeros((64, 64), np.int32)
    labels[:, 56:] = 1
    image = np.zeros((64, 64, 3), np.uint8)

    def shares(limit):
        drawn = [crop(image, labels, 16, limit, np.random.default_rng(s))[1] for s in range(60)]
        return sum(is_mixed(one, 0.75) for one in drawn)

    assert shares(1.0) < 20
    assert shares(0.75) > 25


def test_the_area_of_a_class_counts_among_labelled_pixels_only():
    labels = np.array([[0, 0, 0, 1, NO_CLASS, NO_CLASS, NO_CLASS, NO_CLASS]])
    assert is_mixed(labels, 0.76)
    assert not is_mixed(labels, 0.75), "0 has exactly this share"
    assert not is_mixed(np.array([[0, 0, NO_CLASS]]), 0.99), "a single class"


def test_brightness_moves_every_value_by_the_same_amount():
    rng = Always(uniform=20.7)
    image = noise()
    wanted = (image + 20.7).clip(0, 255).astype(np.uint8)
    assert (brighten(image, rng) == wanted).all()
    assert rng.asked["uniform"] == (-32.0, 32.0)


def test_contrast_multiplies_every_value_and_cuts_off():
    rng = Always(uniform=1.25)
    image = noise()
    assert (scale_values(image, rng) == np.minimum(255, np.floor(image * 1.25))).all()
    assert rng.asked["uniform"] == (0.5, 1.5)


def test_saturation_is_scaled_in_opencvs_colours():
    image = noise()
    hsv = to_hsv(image)
    hsv[..., 1] = (hsv[..., 1] * 0.5).astype(np.uint8)
    assert (scale_saturation(image, Always(uniform=0.5)) == to_rgb(hsv)).all()


def test_hue_turns_around_the_circle_of_180():
    red = np.full((1, 1, 3), (200, 10, 10), np.uint8)
    rng = Always(integers=-18)
    turned = turn_hue(red, rng)[0, 0] / 255
    assert colorsys.rgb_to_hsv(*turned)[0] == pytest.approx(162 / 180, abs=0.01)
    assert rng.asked["integers"] == (-18, 18, ("endpoint", True))


def test_contrast_comes_before_or_after_the_other_colours():
    image = noise()
    seen = {vary_colours(image, np.random.default_rng(seed)).tobytes() for seed in range(40)}
    assert len(seen) > 30
    assert image.tobytes() in {
        vary_colours(image, np.random.default_rng(seed)).tobytes() for seed in range(200)
    }, "one image in 16 keeps its colours"


def test_half_of_the_images_are_mirrored_with_their_labels():
    image, labels = numbered(6, 7)
    mirrored = 0
    for seed in range(100):
        out, out_labels = flip(image, labels, np.random.default_rng(seed))
        assert (out[..., 0] == out_labels % 251).all()
        mirrored += int(out_labels[0, 0] == 6)
    assert 35 < mirrored < 65


def test_what_is_smaller_than_the_crop_is_padded_right_and_below():
    image, labels = numbered(20, 27)
    out, out_labels = pad(image, labels, 32)
    assert out.shape == (32, 32, 3)
    assert (out[20:] == 128).all()
    assert (out[:, 27:] == 128).all()
    assert (out_labels[20:] == NO_CLASS).all()
    assert (out_labels[:20, :27] == labels).all()


def test_the_seed_decides_everything():
    photo, labels = Image.fromarray(noise(40, 50)), numbered(40, 50)[1]
    augmentation = Augmentation(short_sides=(24, 32, 48), crop_size=32)
    first, again, other = (
        augmentation(photo, labels, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert (first[0] != other[0]).any()
    assert first[0].shape == (32, 32, 3)
