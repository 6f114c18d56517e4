"""What the model is asked, and how its answers count."""

import numpy as np
import pytest

from pipelines.datasets import Labelled
from pipelines.sweep.question import make_question


def dataset(classes=("sky", "red ball", "grass")):
    return Labelled(
        name="folder",
        rows=None,
        num_images=1,
        classes=list(classes),
        unseen=[],
        source="",
        digest="",
    )


def test_a_dataset_is_asked_about_its_own_classes():
    question = make_question(dataset())
    assert question.names == ["sky", "red ball", "grass"]
    assert question.class_V.tolist() == [0, 1, 2]
    assert question.answerable_N.all()


def test_extra_names_that_share_a_synonym_with_a_class_are_warned_of(caplog):
    make_question(dataset(), extra=["car", "lawn, grass"])
    (warning,) = caplog.messages
    assert "'grass' stands for two classes" in warning


def test_extra_names_count_as_none_of_the_classes():
    question = make_question(dataset(), extra=["Grass", "car", "dog", "car"])
    assert question.names == ["sky", "red ball", "grass", "car", "dog"]
    assert question.class_V.tolist() == [0, 1, 2, 3, 3]


def test_a_class_that_the_vocabulary_lacks_is_warned_of(caplog):
    make_question(dataset(), vocabulary=["tree", "grass", "red ball, ball"])
    (warning,) = caplog.messages
    assert "2 of the 3 classes of folder are no name of the vocabulary" in warning
    assert warning.endswith("are not scored: sky, red ball")


def test_a_vocabulary_of_ones_own_is_matched_by_name():
    question = make_question(dataset(), vocabulary=["tree", "grass", "Red  Ball"])
    assert question.num_scored == 2
    assert question.class_V.tolist() == [3, 2, 1]
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    assert question.truth(mask).tolist() == [[3, 1], [2, 3]]


def test_a_vocabulary_without_any_class_is_refused():
    with pytest.raises(ValueError, match="none of the 2 names of the vocabulary is a class"):
        make_question(dataset(), vocabulary=["tree", "car"])


def test_a_mask_with_an_impossible_label_is_an_error():
    with pytest.raises(ValueError, match="truth has label 9"):
        make_question(dataset()).truth(np.array([[9]], np.uint8))
