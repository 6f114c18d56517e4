import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluation.reading import Read, decode_image
from pipelines.masks import to_png
from tests.fakes import encoded, plain_image
from tests.pipelines.evaluation.by_grey import halves, read_all, row


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_can_be_used_after_its_file_is_closed(kind):
    photo = decode_image(encoded(plain_image((200, 10, 10)), kind))
    assert np.abs(np.array(photo.resize((8, 6))) - (200, 10, 10.0)).max() < 4


def test_a_photo_is_resized_by_its_shorter_side_and_its_mask_stays():
    (read,) = read_all([row(*halves(60, 100), 2)], 2).to_pylist()
    assert (read["pixels_height"], read["pixels_width"]) == (256, 427)
    assert len(read["pixels"]) == 256 * 427 * 3
    assert (read["height"], read["width"]) == (60, 100)
    assert read["error_type"] is None


def truncated(data):
    return data[: len(data) // 2]


BROKEN = {
    "no photo": ({"image": {"bytes": b"", "path": "a"}}, "BadPhoto", "empty or missing"),
    "photo is no image": ({"image": {"bytes": b"hello", "path": "a"}}, "BadPhoto", "identify"),
    "photo is cut": (
        {"image": {"bytes": truncated(encoded(plain_image((9, 9, 9), 400, 300), "JPEG"))}},
        "BadPhoto",
        "truncated",
    ),
    "no mask": ({"mask": None}, "BadMask", "empty or missing"),
    "mask is no image": ({"mask": {"bytes": b"hello", "path": "a"}}, "BadMask", "identify"),
    "mask has colours": (
        {"mask": {"bytes": to_png(np.zeros((60, 100, 3), np.uint8))}},
        "BadMask",
        "several channels",
    ),
    "mask of another shape": (
        {"mask": {"bytes": to_png(np.zeros((100, 60), np.uint8))}},
        "BadMask",
        "60 x 100, the photo 100 x 60",
    ),
    "label beyond the classes": (
        {"mask": {"bytes": to_png(np.full((60, 100), 8, np.uint8))}},
        "BadMask",
        "label 8, but there are 2 classes",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_says_so_and_harms_nobody_else(case):
    changes, kind, words = BROKEN[case]
    good = row(*halves(), 2, "good")
    table = read_all([good, good | changes | {"image_id": "bad"}, good], 2)
    assert table["image_id"].to_pylist() == ["good", "bad", "good"]
    assert table["error_type"].to_pylist() == [None, kind, None]
    assert words in table["message"][1].as_py()
    assert table["pixels"][1].as_py() is None


def test_a_row_that_comes_with_an_error_keeps_it():
    good = row(*halves(), 2, "good") | {"error_type": None, "message": None}
    bad = {"image_id": "bad", "error_type": "NotFound", "message": "no such file"}
    step = Read(short_side=256, long_side=1024, num_classes=2)
    table = step(pa.Table.from_pylist([good, bad]))
    assert table["error_type"].to_pylist() == [None, "NotFound"]
    assert table["message"].to_pylist() == [None, "no such file"]


def test_a_mask_may_be_smaller_than_its_photo():
    image, _ = halves(601, 1001)
    _, mask = halves(60, 100)
    assert read_all([row(image, mask, 2)], 2)["error_type"].to_pylist() == [None]
