import numpy as np
import pytest

from pipelines.export.brush import MAX_RUN, class_masks


def decode(rle):
    """Unpack as Label Studio's page does, bit by bit."""
    text = "".join(f"{byte:08b}" for byte in rle)
    place = 0

    def read(count):
        nonlocal place
        place += count
        return int(text[place - count : place], 2)

    total, word = read(32), read(5) + 1
    widths = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        repeated, length = read(1), None
        length = read(widths[read(2)]) + 1
        values += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    assert place <= len(text) < place + 8, "nothing is left but what fills the last byte"
    return np.array(values, np.uint8)


def label_maps():
    numbers = np.random.default_rng(0)
    checked = np.indices((7, 9)).sum(0) % 2
    wide = np.zeros((3, MAX_RUN // 3), np.uint8)
    wide[1, 5] = 1
    return {
        "one pixel": np.zeros((1, 1), np.uint8),
        "one class": np.full((5, 8), 2, np.uint8),
        "nothing": np.full((5, 8), 255, np.uint8),
        "a checkerboard": checked.astype(np.uint8),
        "noise": numbers.integers(0, 4, (33, 21), dtype=np.uint8),
        "blocks": numbers.integers(0, 3, (6, 5), dtype=np.uint8).repeat(17, 0).repeat(33, 1),
        "long runs": wide,
        "runs of just the longest": np.zeros((2, MAX_RUN // 4), np.uint8),
        "16 bits": numbers.choice([0, 299, 65535], (9, 9)).astype(np.uint16),
    }


@pytest.mark.parametrize("name", label_maps())
def test_a_brush_unpacks_to_its_mask(name):
    labels_HW = label_maps()[name]
    found = dict(class_masks(labels_HW, 300 if labels_HW.dtype == np.uint16 else 4))
    assert set(found) == {int(v) for v in np.unique(labels_HW)} - {255, 65535}
    for index, rle in found.items():
        channels_HW4 = decode(rle).reshape(*labels_HW.shape, 4)
        expected_HW = np.where(labels_HW == index, 255, 0)
        np.testing.assert_array_equal(channels_HW4, expected_HW[..., None].repeat(4, -1))


@pytest.mark.parametrize("name", label_maps())
def test_label_studios_own_converter_reads_a_brush(name):
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    labels_HW = label_maps()[name]
    for index, rle in class_masks(labels_HW, 4):
        expected_HW = np.where(labels_HW == index, 255, 0).astype(np.uint8)
        found_HW4 = brush.decode_rle(rle).reshape(*labels_HW.shape, 4)
        np.testing.assert_array_equal(found_HW4[..., 3], expected_HW)
        theirs = brush.mask2rle(expected_HW)
        assert theirs[: len(rle)] == rle
