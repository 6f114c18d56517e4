"""Rejection policies: what they keep, and how they are written."""

import pytest
import torch

from sed.rejection import Fixed, Rejection, Threshold, TopK

# Three classes on two pixels.
LOGITS = torch.tensor([[[2.0, 0.0]], [[1.0, 3.0]], [[0.5, -4.0]]])


def test_top_k_is_the_union_over_pixels():
    assert TopK((1,)).keep(LOGITS, 0).tolist() == [True, True, False]


def test_top_k_may_differ_by_level():
    policy = TopK((3, 1, 2))
    assert [policy.keep(LOGITS, level).sum().item() for level in range(3)] == [3, 2, 2]


def test_equal_scores_stay_together():
    tied = torch.tensor([[[1.0]], [[1.0]], [[0.0]]])
    assert TopK((1,)).keep(tied, 0).tolist() == [True, True, False]


def test_threshold_looks_at_the_best_pixel():
    assert Threshold((0.7,)).keep(LOGITS, 0).tolist() == [True, True, False]


def test_threshold_always_leaves_the_best_class():
    assert Threshold((1.0,)).keep(LOGITS, 0).tolist() == [False, True, False]


def test_fixed_keeps_exactly_that_many_and_only_before_the_decoder():
    policy = Fixed(1)
    assert policy.keep(LOGITS, 0).tolist() == [False, True, False]
    assert [policy.acts_at(level) for level in range(3)] == [True, False, False]
    assert Fixed(2).keep(torch.zeros(4, 1, 1), 0).tolist() == [True, True, False, False]


def test_joined_policies_apply_one_after_the_other():
    # Alone, topk:1 keeps classes 0 and 1; after fixed:1 only class 1 is left to choose from.
    assert Rejection.parse("fixed:1+topk:1").keep(LOGITS, 0).tolist() == [False, True, False]
    assert Rejection.parse("topk:1+prob:0.9").keep(LOGITS, 0).tolist() == [False, True, False]


@pytest.mark.parametrize("text", ["none", "topk:2", "prob:0.5", "fixed:3", "fixed:3+prob:0.5"])
def test_of_no_class_none_is_kept(text):
    assert Rejection.parse(text).keep(torch.zeros(0, 2, 2), 0).tolist() == []


def test_none_acts_nowhere():
    assert not any(Rejection.parse("none").acts_at(level) for level in range(3))


@pytest.mark.parametrize(
    "text", ["none", "topk:8", "topk:8,4,2", "prob:0.3", "fixed:64", "fixed:64+topk:8"]
)
def test_text_forms_come_back(text):
    assert str(Rejection.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "topk", "topk:", "topk:0", "topk:1,2", "topk:x", "prob:1.5", "prob:nan", "fixed:0",
     "fixed:-3", "best:3", "topk:8+", "none+topk:8", "8"],
)  # fmt: skip
def test_wrong_text_forms_are_named(text):
    with pytest.raises(ValueError, match="rejection"):
        Rejection.parse(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("topk:x", "'x' is not a whole number"),
        ("topk:", "'' is not a whole number"),
        ("topk:8,2.5,1", "'2.5' is not a whole number"),
        ("prob:x", "'x' is not a number"),
        ("fixed:x", "'x' is not a whole number"),
        ("fixed:64+topk:x", "in 'topk:x', 'x' is not a whole number"),
        ("best:3", "there is no policy 'best:3'"),
    ],
)
def test_a_wrong_policy_is_told_with_the_forms_that_are_understood(text, problem):
    with pytest.raises(ValueError, match="known: none, topk:K") as caught:
        Rejection.parse(text)
    assert str(caught.value).startswith(f"rejection {text!r} is not understood: {problem}; known:")
    assert "invalid literal" not in str(caught.value)


def test_thresholds_keep_every_digit():
    assert str(Rejection.parse("prob:0.12345678")) == "prob:0.12345678"


def test_a_file_holds_a_text_form(tmp_path):
    path = tmp_path / "rejection.json"
    path.write_text('{"rejection": "fixed:64+topk:8"}')
    assert str(Rejection.parse(str(path))) == "fixed:64+topk:8"


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"policy": "topk:8"}', '{"rejection": "best:3"}', '{"rejection": 8}',
     '{"rejection": "rejection.json"}'],
)  # fmt: skip
def test_a_wrong_file_is_an_error(tmp_path, content):
    path = tmp_path / "rejection.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="rejection"):
        Rejection.parse(str(path))


def test_a_missing_file_is_an_error():
    with pytest.raises(ValueError, match="does not exist"):
        Rejection.parse("nowhere.json")


def test_a_file_is_joined_with_other_policies(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text('{"rejection": "fixed:64+prob:0.2"}')
    assert str(Rejection.parse(f"{path}+topk:8")) == "fixed:64+prob:0.2+topk:8"
    assert str(Rejection.parse(f"topk:8+{path}")) == "topk:8+fixed:64+prob:0.2"
    plus = tmp_path / "a+b.json"
    plus.write_text('{"rejection": "none"}')
    assert str(Rejection.parse(str(plus))) == "none"
