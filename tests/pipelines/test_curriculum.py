"""What a small model is asked while it learns."""

import numpy as np
import pytest
import torch

from pipelines import scenes
from pipelines.curriculum import Curriculum, CurriculumObjective, choose_classes, namings
from sed.config import nano
from sed.loss import class_shares
from sed.model import SED


def test_a_scene_is_named_in_full_by_look_and_by_shape():
    full, looks, shapes = namings()
    assert "orange ball" in full.names
    assert {"orange", "grass"} <= set(looks.names)
    assert {"ball", "grass"} <= set(shapes.names)
    index = scenes.vocabulary().index("orange ball")
    label = torch.tensor([[index]])
    for naming, name in ((full, "orange ball"), (looks, "orange"), (shapes, "ball")):
        assert naming.names[naming.translate(label).item()] == name


def test_combinations_that_are_never_drawn_are_never_named():
    names = scenes.vocabulary()
    unseen = {names[index] for index in scenes.unseen_classes()}
    for naming in namings():
        assert not unseen & set(naming.names)
    labels = torch.tensor([scenes.unseen_classes()])
    assert (namings()[0].translate(labels) == 255).all()


def test_classes_asked_hold_what_is_shown_and_related_ones():
    names = namings()[0].names
    shown = [names.index("orange ball"), names.index("grass")]
    asked = choose_classes(np.random.default_rng(0), shown, names, 8)
    assert set(shown) <= set(asked)
    assert asked == sorted(asked)
    assert len(asked) == len(set(asked)) == 8
    related = [names[index] for index in asked if {"orange", "ball"} & set(names[index].split())]
    assert len(related) >= 3


def test_classes_asked_hold_what_the_image_is_taken_for():
    names = namings()[0].names
    shown = [3, 40]
    likely = [40, 90, 3, 7, 60, 12, 80, 33]
    rng = np.random.default_rng(0)
    asked = choose_classes(rng, shown, names, 8, likely, likely_share=0.5)
    assert {90, 7, 60} <= set(asked)
    assert len(set(asked)) == 8
    assert set(choose_classes(rng, shown, names, 8, likely, likely_share=1.0)) == set(likely)
    assert choose_classes(rng, shown, names, 1, likely, likely_share=1.0) == shown


def test_ignored_labels_are_not_asked_for():
    names = namings()[0].names
    assert 255 not in choose_classes(np.random.default_rng(0), [0, 255], names, 6)


def test_class_shares_count_pixels_of_each_cell():
    labels_BHW = torch.tensor([[[0, 0, 1, 255], [0, 2, 1, 255]]])
    shares = class_shares(labels_BHW, 3, 2)
    assert shares[0, :, 0, 0].tolist() == [0.75, 0, 0.25]
    assert shares[0, :, 0, 1].tolist() == [0, 0.5, 0]


@pytest.fixture(scope="module")
def batch():
    drawn = [scenes.draw(0, number, split="train", size=64) for number in range(2)]
    return tuple(
        torch.from_numpy(np.stack([getattr(scene, part) for scene in drawn]))
        for part in ("image_HW3", "mask_HW")
    )


def test_the_first_steps_train_the_encoders_only(batch):
    model = SED(nano()).train()
    losses = CurriculumObjective(model, Curriculum(align_steps=10))(*batch, 3)
    assert set(losses) == {"align", "deep"}
    torch.stack(list(losses.values())).sum().backward()
    assert model.decoder.heads[3].weight.grad is None
    assert model.image_encoder.visual.trunk.stem[0].weight.grad.any()
    assert model.text_encoder.text.token_embedding.weight.grad.any()


def test_later_steps_train_everything(batch):
    model = SED(nano()).train()
    curriculum = Curriculum(align_steps=10, deep_weight=0.5, label_size=32)
    losses = CurriculumObjective(model, curriculum)(*batch, 10)
    assert set(losses) == {"align", "deep", "final", "stride32", "stride16", "stride8"}
    torch.stack(list(losses.values())).sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == set()


def test_the_losses_at_finer_strides_may_be_left_out(batch):
    objective = CurriculumObjective(SED(nano()).train(), Curriculum(align_steps=10, deep_weight=0))
    assert set(objective(*batch, 3)) == {"align"}


def test_objects_weigh_more_than_grounds():
    objective = CurriculumObjective(SED(nano()), Curriculum(object_weight=4.0))
    full = namings()[0]
    weights = objective.weigh(full, torch.zeros(1)).tolist()
    assert weights[full.names.index("grass")] == 1
    assert weights[full.names.index("orange ball")] == 4


def test_the_same_step_asks_the_same(batch):
    torch.manual_seed(0)
    objective = CurriculumObjective(SED(nano()).eval(), Curriculum(align_steps=0, label_size=32))
    first, second = (objective(*batch, 7) for _ in range(2))
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


def test_the_decoder_may_be_trained_in_some_steps_only(batch):
    curriculum = Curriculum(align_steps=10, decode_every=4, label_size=32)
    objective = CurriculumObjective(SED(nano()).train(), curriculum)
    assert ["final" in objective(*batch, step) for step in (10, 11, 12, 13, 14)] == [
        True, False, False, False, True,
    ]  # fmt: skip


def test_the_overlap_of_each_level_may_be_trained_too(batch):
    curriculum = Curriculum(align_steps=0, label_size=32, overlap_weight=0.5)
    losses = CurriculumObjective(SED(nano()).train(), curriculum)(*batch, 0)
    assert "overlap" in losses
    assert 0 < losses["overlap"] <= 0.5 * 4


def test_names_are_ranked_by_the_cell_that_comes_closest(batch):
    objective = CurriculumObjective(SED(nano()).eval(), Curriculum())
    names = objective.namings[1].names
    images = batch[0].permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        features = objective.model.image_encoder(images)
        first, second = objective.rank(features, names)
        text = torch.nn.functional.normalize(objective.model.text_encoder(names, [0])[:, 0], dim=1)
        cells = torch.nn.functional.normalize(features.embedding_BDHW, dim=1)[1].flatten(1)
    assert sorted(first) == sorted(second) == list(range(len(names)))
    assert second[0] == (text @ cells).amax(1).argmax()
