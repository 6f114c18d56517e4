"""The sweep as a job where images, masks or trials are not as they should be."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from jobs import sweep
from jobs.sweep import Args
from pipelines import datasets, weights
from pipelines.datasets import Labelled, draw_scenes
from pipelines.masks import to_png
from pipelines.rows import PREPARED
from pipelines.scenes import vocabulary
from tests.pipelines.sweep.colours import Failing, photo_set

pytestmark = pytest.mark.ray


@pytest.fixture
def args(tmp_path):
    """Flags of a sweep that tries one policy."""
    return Args(
        dataset="scenes", output=str(tmp_path / "out"), mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
        trials=1, concurrency=1, limit=4, json=True,
    )  # fmt: skip


@pytest.fixture
def scenes_with_masks(local_ray, monkeypatch):
    """Returns a function: from now on the dataset is four scenes, the first with these masks."""
    table = draw_scenes(pa.table({"id": range(4)}), split="seen", seed=0)

    def have(*masks):
        rows = table.to_pylist()
        for row, mask_HW in zip(rows, masks, strict=False):
            row["mask"] = {"bytes": to_png(mask_HW), "path": "mask.png"}
        data = Labelled(
            name="scenes", num_images=4, classes=vocabulary(), unseen=[], source="", digest="",
            rows=local_ray.data.from_arrow(pa.Table.from_pylist(rows, schema=PREPARED)),
        )  # fmt: skip
        monkeypatch.setattr(datasets, "load", lambda *_, **__: data)
        return [row["image_id"] for row in rows]

    return have


BEYOND = np.full((256, 256), 200, np.uint8)
"""A mask of a label that no class has."""

UPRIGHT = np.zeros((120, 90), np.uint8)
"""A mask of another shape than its photo, a square."""


def refused(args, capsys):
    """The sentence with which a sweep ends with status 2."""
    with pytest.raises(SystemExit) as stopped:
        sweep.main(args)
    assert stopped.value.code == 2
    (sentence,) = [
        line for line in capsys.readouterr().err.split("\n") if line.startswith("error: ")
    ]
    return sentence


def test_masks_that_do_not_fit_are_left_out_by_name(scenes_with_masks, args, capsys, caplog):
    names = scenes_with_masks(BEYOND, UPRIGHT)
    sweep.main(args)
    found = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
    assert found["images"] == 2
    assert sorted(found["broken_images"]) == [
        f"{names[0]}: the mask: it has label 200, but there are 156 classes",
        f"{names[1]}: the mask: it is 90 x 120, the photo 256 x 256",
    ]
    left_out = [one for one in caplog.messages if one.startswith("left out: ")]
    assert sorted(left_out) == [f"left out: {one}" for one in sorted(found["broken_images"])]


def test_a_set_without_any_sound_mask_ends_with_status_2(scenes_with_masks, args, capsys):
    scenes_with_masks(BEYOND, UPRIGHT, BEYOND, UPRIGHT)
    assert "no image of 'scenes' has a mask that can be used (seen-0-" in refused(args, capsys)


def test_a_set_that_shows_no_class_of_the_vocabulary_ends_with_status_2(
    scenes_with_masks, args, capsys
):
    everywhere_sand = np.full((256, 256), vocabulary().index("sand"), np.uint8)
    scenes_with_masks(*[everywhere_sand] * 4)
    sentence = refused(replace(args, classes=("grass", "water")), capsys)
    assert "no pixel of the masks has a class of the vocabulary" in sentence
    sweep.main(args)  # nothing is left in the output that another vocabulary would not fit
    assert json.loads(capsys.readouterr().out.strip().split("\n")[-1])["images"] == 4


def test_a_set_that_lost_an_image_since_the_sweep_began_ends_with_status_2(
    scenes_with_masks, args, tmp_path, capsys
):
    scenes_with_masks()
    sweep.main(args)
    (tmp_path / "out/sweep.json").unlink()  # as a kill before the end leaves it
    scenes_with_masks(BEYOND)
    sentence = refused(args, capsys)
    assert "3 images of the validation set can be used, 4 when the sweep began" in sentence
    assert "use another --output" in sentence


def test_a_sweep_of_which_a_trial_failed_says_so(local_ray, args, tmp_path, monkeypatch, capsys):
    (tmp_path / "fault").touch()
    failing = Failing("topk:2", str(tmp_path / "fault"))
    monkeypatch.setattr(weights, "share_weights", lambda _: failing)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: photo_set(local_ray, 6))
    sweep.main(replace(args, trials=3, search="random"))
    *lines, last = capsys.readouterr().out.strip().split("\n")
    assert json.loads(last)["failed_trials"] == 1
    tried = {one["rejection"] for one in json.loads(last)["trials"]}
    assert tried == {"none", "topk:1", "topk:4"}
    words = "1 trial failed: what was found is of the others, the same command tries it again"
    assert words in lines
