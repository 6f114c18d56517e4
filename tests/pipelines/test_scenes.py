import hashlib
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from pipelines import scenes
from pipelines.scenes.looks import PALETTE
from pipelines.scenes.names import COLOURS, GROUNDS, LOOKS, SHAPES
from pipelines.scenes.objects import draw_object
from pipelines.scenes.shapes import SHAPES as OUTLINES
from pipelines.scenes.textures import TEXTURES

NAMES = scenes.vocabulary()


@pytest.fixture(scope="module")
def drawn():
    """Some scenes of each split, drawn once."""
    return {
        split: [scenes.draw(11, i, split=split, size=128) for i in range(count)]
        for split, count in (("train", 300), ("seen", 30), ("unseen", 80))
    }


def digest(scene):
    return hashlib.sha256(scene.image_HW3.tobytes() + scene.mask_HW.tobytes()).hexdigest()


def classes_in(many):
    return set(np.unique(np.stack([scene.mask_HW for scene in many])).tolist())


def words_of(classes):
    return {word for i in classes for word in scenes.coarse_name(i)}


def test_every_name_is_drawable_and_named_once():
    assert len(set(NAMES)) == len(NAMES) == len(GROUNDS) + len(SHAPES) * len(LOOKS)
    assert set(TEXTURES) == set(GROUNDS)
    assert set(OUTLINES) == set(SHAPES)
    assert set(PALETTE) == set(COLOURS)


def test_training_and_unseen_classes_share_out_the_vocabulary():
    training, unseen = scenes.training_classes(), scenes.unseen_classes()
    assert sorted(training + unseen) == list(range(len(NAMES)))
    assert 0.15 < len(unseen) / (len(SHAPES) * len(LOOKS)) < 0.25
    assert not set(unseen) & set(range(len(GROUNDS)))


def test_every_word_of_an_unseen_class_has_many_partners_in_training():
    training = [scenes.coarse_name(i) for i in scenes.training_classes() if i >= len(GROUNDS)]
    unseen = [scenes.coarse_name(i) for i in scenes.unseen_classes()]
    for position, words in ((0, LOOKS), (1, SHAPES)):
        for word in words:
            assert sum(name[position] == word for name in training) >= 9
            assert 2 <= sum(name[position] == word for name in unseen) <= 3


def test_coarse_names_are_the_words_of_the_name():
    assert scenes.coarse_name(NAMES.index("red ball")) == ("red", "ball")
    assert scenes.coarse_name(NAMES.index("brick wall")) == ("brick", "wall")
    assert scenes.coarse_name(NAMES.index("grass")) == ("grass",)


@pytest.mark.parametrize("split", ["train", "seen", "unseen"])
def test_the_same_scene_comes_again(split):
    first, second = (scenes.draw(3, 5, split=split, size=96) for _ in range(2))
    assert digest(first) == digest(second)


def test_another_process_draws_the_same_scene():
    code = (
        "import hashlib, sys; from pipelines import scenes;"
        "s = scenes.draw(3, 5, split='train', size=96);"
        "data = s.image_HW3.tobytes() + s.mask_HW.tobytes();"
        "sys.stdout.write(hashlib.sha256(data).hexdigest())"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout == digest(scenes.draw(3, 5, split="train", size=96))


def test_seed_index_and_split_each_give_another_scene():
    calls = [(0, 0, "train"), (1, 0, "train"), (0, 1, "train"), (0, 0, "seen"), (0, 0, "unseen")]
    assert len({digest(scenes.draw(s, i, split=p, size=64)) for s, i, p in calls}) == len(calls)


@pytest.mark.parametrize("size", [32, 100, 256])
def test_image_and_mask_have_the_asked_size(size):
    scene = scenes.draw(0, 0, split="train", size=size)
    assert scene.image_HW3.shape == (size, size, 3)
    assert scene.mask_HW.shape == (size, size)
    assert scene.image_HW3.dtype == scene.mask_HW.dtype == np.uint8


def test_a_wrong_split_or_size_is_a_clear_error():
    with pytest.raises(ValueError, match="'validation'"):
        scenes.draw(0, 0, split="validation")
    with pytest.raises(ValueError, match="got 8"):
        scenes.draw(0, 0, split="train", size=8)


@pytest.mark.parametrize("split", ["train", "seen"])
def test_training_and_seen_scenes_hold_training_classes_only(drawn, split):
    assert classes_in(drawn[split]) <= set(scenes.training_classes())


def test_every_object_of_an_unseen_scene_is_an_unseen_combination(drawn):
    assert classes_in(drawn["unseen"]) <= set(scenes.unseen_classes()) | set(range(len(GROUNDS)))


def test_some_hundred_scenes_show_every_class(drawn):
    missing = set(scenes.training_classes()) - classes_in(drawn["train"])
    assert len(missing) <= 2
    assert classes_in(drawn["unseen"]) >= set(scenes.unseen_classes())
    assert words_of(classes_in(drawn["train"])) >= {*LOOKS, *SHAPES}


def test_every_scene_has_a_ground_and_an_object(drawn):
    for scene in drawn["train"]:
        present = np.unique(scene.mask_HW)
        assert present.min() < len(GROUNDS) <= present.max()


def edge_strength(scene, shift):
    """Mean change of colour across the borders of a mask that is moved sideways."""
    mask = np.roll(scene.mask_HW, shift, axis=1)
    border = mask[:, 12:-12] != mask[:, 11:-13]
    change = np.abs(np.diff(scene.image_HW3.astype(int), axis=1)).sum(axis=2)[:, 11:-12]
    return change[border].mean()


def test_the_photo_changes_most_exactly_where_the_mask_does(drawn):
    strength = {
        shift: np.mean([edge_strength(scene, shift) for scene in drawn["train"][:60]])
        for shift in (-8, -2, -1, 0, 1, 2, 8)
    }
    assert max(strength, key=strength.__getitem__) == 0
    assert strength[0] > 2 * max(strength[-8], strength[8])


def test_plain_objects_show_the_colour_of_their_name(drawn):
    right = total = 0
    palette = np.array([PALETTE[colour] for colour in COLOURS])
    for scene in drawn["train"]:
        for i in np.unique(scene.mask_HW[scene.mask_HW >= len(GROUNDS)]):
            look = scenes.coarse_name(i)[0]
            if look in COLOURS and (scene.mask_HW == i).sum() > 100:
                colour = np.median(scene.image_HW3[scene.mask_HW == i], axis=0) / 255
                right += COLOURS[np.abs(palette - colour).sum(axis=1).argmin()] == look
                total += 1
    assert total > 100
    assert right > 0.9 * total


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_fits_its_square_and_keeps_its_area_when_turned(shape):
    areas = []
    for seed in range(6):
        sprite = draw_object(np.random.default_rng(seed), shape, "striped", radius=40)
        assert sprite.colour_SS3.shape[:2] == sprite.alpha_SS.shape == sprite.shadow_SS.shape
        edges = (sprite.alpha_SS[[0, -1]], sprite.alpha_SS[:, [0, -1]])
        assert max(edge.max() for edge in edges) == 0
        areas.append((sprite.alpha_SS >= 0.5).sum())
    assert min(areas) > 0.15 * np.pi * 40**2
    assert max(areas) < 1.02 * min(areas)


def test_turned_silhouettes_differ_between_shapes():
    masks = [
        draw_object(np.random.default_rng(0), shape, "red", radius=40).alpha_SS >= 0.5
        for shape in SHAPES
    ]
    for i, first in enumerate(masks):
        for second in islice(masks, i + 1, None):
            assert (first & second).sum() / (first | second).sum() < 0.9
