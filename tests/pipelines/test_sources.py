"""What is trained on: a user's folder, prepared or not, and what label wrote, read at random."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from pipelines import scenes
from pipelines.masks import to_png
from pipelines.outputs import DONE, write_run
from pipelines.prepare.layouts import find_pairs
from pipelines.prepare.plan import make_plan
from pipelines.prepare.prepare import prepare
from pipelines.sources import open_source
from pipelines.storage import locate
from tests.pipelines.labelled_scenes import RUN, write_output

CLASSES = ["grass", "red ball", "sky"]


@pytest.fixture
def folder(tmp_path):
    """Eleven photos, whose masks say which they are."""
    place = tmp_path / "mine"
    for name in ("images", "masks"):
        (place / name).mkdir(parents=True)
    (place / "classes.json").write_text(json.dumps(CLASSES))
    for number in range(11):
        photo = np.full((6, 8, 3), number, np.uint8)
        mask = np.full((6, 8), number % 3, np.uint8)
        mask[0] = 255
        (place / "images" / f"{number:02d}.png").write_bytes(to_png(photo))
        (place / "masks" / f"{number:02d}.png").write_bytes(to_png(mask))
    return place


def everything(source):
    """All rows, each piece backwards."""
    found = []
    for piece, length in enumerate(source.pieces.lengths):
        found += reversed(source.pieces.read(piece, range(length - 1, -1, -1)))
    return found


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image)


def no_cluster():
    raise AssertionError("so few images are prepared in this process")


def test_a_folder_and_what_was_prepared_of_it_are_the_same_images(folder, tmp_path):
    output = tmp_path / "prepared"
    plan = make_plan(
        find_pairs("folder", locate(str(folder)), "all"), locate(str(output)), allow_partial=False
    )
    prepare(plan, no_cluster)
    shipped, prepared = open_source("folder", str(folder)), open_source("folder", str(output))
    for source in (shipped, prepared):
        assert source.classes == tuple(CLASSES)
        assert source.num_images == 11
    rows = everything(shipped)
    assert rows == everything(prepared)
    for number, row in enumerate(rows):
        assert row["error"] is None
        assert (pixels(row["image"]) == number).all()
        assert (pixels(row["mask"])[1:] == number % 3).all()
        assert (pixels(row["mask"])[0] == 255).all()


def test_a_photo_that_is_damaged_later_is_an_error_of_its_own(folder):
    source = open_source("folder", str(folder))
    (folder / "images" / "04.png").write_bytes(b"no image")
    rows = everything(source)
    assert [index for index, row in enumerate(rows) if row["error"] is not None] == [4]
    assert "04.png" in rows[4]["error"]


def test_labels_are_read_with_their_photos(tmp_path):
    output = write_output(tmp_path, num_images=7, per_shard=3)
    write_run(output, RUN | {"status": DONE, "classes": scenes.vocabulary(), "fingerprint": "x"})
    source = open_source("labels", output.path)
    assert source.pieces.lengths == (3, 3, 1)
    (tmp_path / "photos" / "scene_005.jpg").unlink()
    rows = everything(source)
    assert [index for index, row in enumerate(rows) if row["error"] is not None] == [5]
    assert pixels(rows[0]["mask"]).shape == pixels(rows[0]["image"]).shape[:2]


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="images"):
        open_source("folder", str(tmp_path))
