"""Encoding and measuring, called as plain functions on drawn scenes."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

import sed
from pipelines.cluster import Pool
from pipelines.datasets import Labelled, draw_scenes
from pipelines.evaluation.reading import Read
from pipelines.masks import to_png
from pipelines.rows import PREPARED
from pipelines.scenes import vocabulary
from pipelines.storage import locate
from pipelines.sweep.bench import Bench
from pipelines.sweep.plan import check_output
from pipelines.sweep.question import make_question
from pipelines.sweep.search import PolicySearch, canonical, listed
from pipelines.sweep.space import Range, Space
from pipelines.sweep.sweep import measure_none
from pipelines.sweep.tally import drop
from pipelines.sweep.trial import file_name, read_reports, run_trial, rungs
from pipelines.sweep.validation import ENCODED, Encoded, Encoder, UnusableSetError, usable
from sed import Rejection
from sed.metrics import ConfusionMatrix

NUM_IMAGES = 4


def load_nano(device):
    return sed.load_model("nano", device)


def make_encoder():
    return Encoder(load_model=load_nano, num_classes=len(vocabulary()))


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(pa.table({"id": range(NUM_IMAGES)}), split="seen", seed=3)


@pytest.fixture(scope="module")
def encoded(scenes):
    return make_encoder()(scenes)


@pytest.fixture(scope="module")
def question(scenes):
    shown = {
        value
        for row in scenes.to_pylist()
        for value in np.unique(mask_of(row)).tolist()
        if value != 255
    }
    names = [vocabulary()[index] for index in sorted(shown)] + ["purple fish"]
    data = Labelled(
        name="scenes", rows=None, num_images=NUM_IMAGES, classes=vocabulary(), unseen=[],
        source="", digest="",
    )  # fmt: skip
    return make_question(data, names, ["zebra", "elephant"])


def mask_of(row):
    from pipelines.evaluate import decode_mask

    return decode_mask(row["mask"]["bytes"])


def measure(encoded, question, text):
    model = load_nano("cpu")
    bench = Bench(
        encoded=Encoded((), (), ()),
        text=None,
        question=question,
        load_model=load_nano,
        pool=Pool(1, 1, 0, 1),
        batch_size=NUM_IMAGES,
    )
    names_NPD = model.embed_classes(question.names)
    return bench.measure_batch(model, names_NPD, Rejection.parse(text), encoded.to_pylist())


def test_what_is_measured_is_what_segment_gives(scenes, encoded, question):
    model = load_nano("cpu")
    matrix = ConfusionMatrix(len(question.classes) + 1)
    from pipelines.evaluate import decode_image

    for row in scenes.to_pylist():
        result = model.segment(
            decode_image(row["image"]["bytes"]), question.names, Rejection.parse("topk:2")
        )
        truth = question.truth(mask_of(row))
        labels = question.class_V[result.labels]
        matrix.update(labels, truth, ignore=len(question.classes))
    tally = measure(encoded, question, "topk:2")
    assert tally.mean_iou() == pytest.approx(matrix.metrics().mean_iou, abs=0.3)
    assert tally.mean_iou() > 30


def test_keeping_every_class_costs_everything_and_drops_nothing(encoded, question):
    none, few = measure(encoded, question, "none"), measure(encoded, question, "fixed:2")
    assert none.cost(len(question.names)) == 1
    assert none.recall() == [1, 1, 1]
    assert few.kept() == [2, 2, 2]
    assert few.cost(len(question.names)) == pytest.approx(2 / len(question.names))
    assert few.recall()[0] < 1
    assert drop(none, few).points > 5
    assert (few.decoder_I > 0).all()


def changed(row, **values):
    return row | {name: {"bytes": data, "path": "x"} for name, data in values.items()}


def test_what_evaluate_has_no_score_for_is_told_and_left_out(scenes):
    good, *_ = scenes.to_pylist()
    height, width = mask_of(good).shape
    broken = {
        "image is no photo": changed(good, image=b"no photo"),
        "mask is missing": good | {"mask": None},
        "mask is empty": changed(good, mask=b""),
        "mask has colours": changed(good, mask=to_png(np.zeros((height, width, 3), np.uint8))),
        "mask lies on its side": changed(
            good, mask=to_png(np.zeros((width, height + 9), np.uint8))
        ),
        "mask has a label beyond": changed(
            good, mask=to_png(np.full((height, width), 200, np.uint8))
        ),
    }
    rows = [good, *(row | {"image_id": name} for name, row in broken.items())]
    prepared = pa.Table.from_pylist(rows, schema=PREPARED)
    table = make_encoder()(prepared)
    assert table.schema == ENCODED
    kept, (wrong, count) = usable(table)
    assert kept["image_id"].to_pylist() == [good["image_id"]]
    assert count == 1
    step = Read(short_side=64, long_side=256, num_classes=len(vocabulary()))
    errors = [one for one in step(prepared).to_pylist() if one["error_type"]]
    assert wrong == [f"{one['image_id']}: {one['message']}" for one in errors]
    assert [one["image_id"] for one in errors] == list(broken)
    assert "label 200, but there are 156 classes" in wrong[-1]


def test_each_step_doubles_the_images():
    assert rungs(100, 8) == [range(32), range(32, 64), range(64, 100)]
    assert rungs(32, 8) == [range(32)]
    assert rungs(5, 8) == [range(5)]


def test_each_step_but_the_last_has_whole_batches():
    assert rungs(100, 12) == [range(36), range(36, 72), range(72, 100)]
    assert rungs(600, 256) == [range(256), range(256, 512), range(512, 600)]


def test_what_was_measured_to_the_end_is_not_judged_again_on_fewer_images(tmp_path, monkeypatch):
    reported = []
    monkeypatch.setattr("ray.tune.report", reported.append)
    place = locate(str(tmp_path))
    reports = [{"rejection": "topk:2", "images": images} for images in (32, 64, 70)]
    place.at(file_name("topk:2")).write(json.dumps(reports).encode())
    bench = Bench(
        encoded=Encoded((), (70,), ()), text=None, question=None, load_model=None,
        pool=Pool(1, 1, 0, 1), batch_size=8, none="is not read", place=place,
    )  # fmt: skip
    run_trial({"rejection": "topk:2"}, bench)
    assert reported == reports[-1:]


def test_policies_have_files_of_their_own(tmp_path):
    assert file_name("topk:1") != file_name("topk:2")
    assert read_reports(locate(str(tmp_path)).at("nothing.json")) == []


def test_an_output_of_something_else_is_refused(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="is not empty and holds no sweep"):
        check_output(locate(str(tmp_path)), {})
    (tmp_path / "state.json").write_text('{"identity": {"model": "a", "seed": 0}}')
    assert check_output(locate(str(tmp_path)), {"model": "a", "seed": 0})
    with pytest.raises(ValueError, match="a sweep with another seed: use another"):
        check_output(locate(str(tmp_path)), {"model": "a", "seed": 1})
    with pytest.raises(ValueError, match="other data and another number of trials: use"):
        check_output(locate(str(tmp_path)), {"model": "a", "data": "b", "trials": 24})
    (tmp_path / "state.json").write_text("[")
    with pytest.raises(ValueError, match="is damaged"):
        check_output(locate(str(tmp_path)), {})


def test_the_search_proposes_each_policy_once_and_goes_on_from_a_file(tmp_path):
    space = Space(("topk:{k}", "prob:{t}"), {"k": (1, 2), "t": Range(0.1, 0.3)})
    search = PolicySearch(["topk:1", "topk:2"], references=1, num_names=9, space=space, seed=0)
    proposed = [search.suggest("a"), search.suggest("b"), search.suggest("c")]
    assert [one["reference"] for one in proposed] == [True, False, False]
    search.on_trial_complete("c", {"cost": 0.2, "drop_points": 1.0})
    search.save(str(tmp_path / "search"))
    again = PolicySearch([], references=0, num_names=9)
    again.restore(str(tmp_path / "search"))
    further = [again.suggest(str(index))["rejection"] for index in range(8)]
    assert all(text.startswith("prob:") for text in further)
    assert len({one["rejection"] for one in proposed} | set(further)) == 11
    for index in range(8):
        again.on_trial_complete(str(index), error=True)


def test_a_hole_may_have_any_name_and_what_is_measured_anyway_is_not_proposed():
    space = Space(("none", "topk:{policy}", "fixed:{}"), {"policy": (1, 2), "": (1, 2)})
    search = PolicySearch([], references=0, num_names=9, space=space, seed=0)
    proposed = []
    while (one := search.suggest(str(len(proposed)))) != "FINISHED":
        proposed.append(one["rejection"])
    assert sorted(proposed) == ["fixed:1", "fixed:2", "topk:1", "topk:2"]
    for kind in ("grid", "random"):
        policies = listed(space, kind, trials=20, seed=0, num_names=9)
        assert sorted(policies) == ["fixed:1", "fixed:2", "topk:1", "topk:2", "topk:4", "topk:8"]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("topk:1,1,1", "topk:1"),
        ("topk:8,2,1", "topk:6,2,1"),
        ("topk:8", "none"),
        ("fixed:2+topk:7", "fixed:2"),
        ("fixed:6+topk:2", "topk:2"),
        ("topk:7,6,9+prob:0.3,0.3,0.3", "prob:0.3"),
        ("fixed:4+prob:0.1,0.2,0.2", "fixed:4+prob:0.1,0.2,0.2"),
        ("prob:0+topk:2", "topk:2"),
        ("none", "none"),
    ],
)
def test_of_policies_that_do_the_same_to_six_names_one_is_tried(text, same):
    assert canonical(text, 6) == same
    logits_NHW = torch.randn(6, 4, 4)
    for level in range(3):
        kept = [Rejection.parse(one).keep(logits_NHW, level) for one in (text, same)]
        assert torch.equal(*kept)


def test_a_list_ends():
    search = PolicySearch(["topk:1"], references=1, num_names=9)
    search.suggest("a")
    assert search.suggest("b") == "FINISHED"


def test_a_start_that_could_read_other_images_is_refused(encoded, question, tmp_path):
    place = locate(str(tmp_path / "none.npz"))
    place.write(measure(encoded, question, "none").to_bytes())
    bench = Bench(
        encoded=Encoded((), (NUM_IMAGES + 1,), ()),
        text=None,
        question=question,
        load_model=load_nano,
        pool=Pool(1, 1, 0, 1),
        batch_size=NUM_IMAGES,
    )
    with pytest.raises(UnusableSetError, match=f"{NUM_IMAGES} when the sweep began"):
        measure_none(bench, place)
