import numpy as np
import pyarrow as pa
import pytest

from pipelines import demo, masks, rows, scenes, shards
from pipelines.storage import locate


@pytest.fixture
def folder(tmp_path):
    return locate(str(tmp_path / "demo"))


def names(place):
    return sorted(info.base_name for info in place.files())


def write_labels(folder, spoil):
    """Write the true masks as labels, those of `spoil` all wrong."""
    num_classes = len(scenes.vocabulary())
    table = []
    for name in names(folder.at("images")):
        mask = folder.at("masks", name.rpartition(".")[0] + ".png").read()
        if name.startswith(spoil):
            labels_HW = (demo.open_png(mask).astype(int) + 1) % num_classes
            mask = masks.index_png(labels_HW, num_classes)
        table.append(
            {"image_uri": folder.at("images", name).uri, "mask": {"bytes": mask, "path": None}}
        )
    result = folder.at("result")
    shards.write_shard(
        result, 0, pa.Table.from_pylist(table, rows.LABELS), pa.Table.from_pylist([], rows.ERRORS)
    )
    return result


def test_the_corpus_has_seen_and_unseen_scenes_as_jpeg_and_png(folder):
    demo.draw_corpus(folder, 6)
    assert names(folder.at("images")) == [
        *("seen-000.jpg", "seen-001.png", "seen-002.jpg"),
        *("unseen-000.jpg", "unseen-001.png", "unseen-002.jpg"),
    ]
    assert len(names(folder.at("masks"))) == 6
    truth_HW = demo.open_png(folder.at("masks", "unseen-000.png").read())
    np.testing.assert_array_equal(truth_HW, scenes.draw(demo.SEED, 0, split="unseen").mask_HW)
    assert set(np.unique(truth_HW)) & set(scenes.unseen_classes())


def test_drawing_again_changes_nothing_and_fills_what_is_missing(folder):
    demo.draw_corpus(folder, 4)
    before = {info.path: info.mtime for info in folder.files(recursive=True)}
    lost = folder.at("images", "seen-001.png")
    photo = lost.read()
    lost.remove()
    demo.draw_corpus(folder, 4)
    after = {info.path: info.mtime for info in folder.files(recursive=True)}
    assert lost.read() == photo
    assert {
        path for path in before if path.endswith(".jpg") and before[path] != after[path]
    } == set()
    assert before.keys() == after.keys()


def test_a_folder_with_other_things_is_refused(folder):
    folder.at("images", "holiday.jpg").write(b"precious")
    with pytest.raises(ValueError, match="not empty"):
        demo.draw_corpus(folder, 4)
    assert names(folder.at("images")) == ["holiday.jpg"]


def test_a_demo_of_another_size_is_refused(folder):
    demo.draw_corpus(folder, 2)
    with pytest.raises(ValueError, match="another demo"):
        demo.draw_corpus(folder, 4)
    with pytest.raises(ValueError, match="at least 1"):
        demo.draw_corpus(folder, 0)


def test_true_labels_score_100_and_wrong_ones_0(folder):
    demo.draw_corpus(folder, 4)
    scores = demo.score(folder, write_labels(folder, spoil="unseen"))
    assert scores["seen"] == demo.Score(images=2, mean_iou=100.0, pixel_accuracy=100.0)
    assert scores["unseen"] == demo.Score(images=2, mean_iou=0.0, pixel_accuracy=0.0)


def test_a_split_without_an_image_has_no_score(folder):
    demo.draw_corpus(folder, 1)
    assert list(demo.score(folder, write_labels(folder, spoil="nothing"))) == ["seen"]
