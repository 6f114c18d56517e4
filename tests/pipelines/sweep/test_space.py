"""The search space: how it is written, what is wrong with it, what comes out of it."""

import json
import re

import optuna
import pytest

from pipelines.sweep.search import listed
from pipelines.sweep.space import Range, Space, default_space, parse_space, read_space
from sed import Rejection


def test_a_file_of_either_kind_is_read(tmp_path):
    (tmp_path / "space.yaml").write_text(
        'policies: ["fixed:{f}+topk:{k}"]\n'
        "parameters:\n  k: [1, 4]\n  f: {from: 8, to: 32, log: true}\n"
    )
    (tmp_path / "space.json").write_text(
        json.dumps(
            {
                "policies": ["fixed:{f}+topk:{k}"],
                "parameters": {"k": [1, 4], "f": {"from": 8, "to": 32, "log": True}},
            }
        )
    )
    yaml, plain = (read_space(str(tmp_path / name)) for name in ("space.yaml", "space.json"))
    assert yaml == plain == Space(("fixed:{f}+topk:{k}",), {"k": (1, 4), "f": Range(8, 32, True)})


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "it is empty"),
        ({"policies": []}, "it is empty"),
        ([1], 'may hold "policies"'),
        ({"policies": ["topk:2"], "more": 1}, 'may hold "policies"'),
        ({"policies": "topk:2"}, '"policies" is a list'),
        ({"policies": ["topk:{k}"]}, "nothing says what {k} may be"),
        ({"policies": ["topk:{k}"], "parameters": {"k": [1, 0, 4]}}, "topk:0"),
        ({"policies": ["topk:2"], "parameters": {"k": [1]}}, "no policy has a hole"),
        ({"policies": ["best:{k}"], "parameters": {"k": [1]}}, "rejection 'best:1'"),
        ({"policies": ["topk:{k}"], "parameters": {"k": [0, 1]}}, "rejection 'topk:0'"),
        ({"policies": ["prob:{t}"], "parameters": {"t": {"from": 0.5, "to": 2}}}, "prob"),
        ({"policies": ["topk:{k}"], "parameters": {"k": []}}, "the parameter 'k'"),
        ({"policies": ["topk:{k}"], "parameters": {"k": {"from": 4, "to": 1}}}, "'k'"),
        ({"policies": ["prob:{t}"], "parameters": {"t": {"from": 0, "to": 1, "log": True}}}, "log"),
    ],
)
def test_what_is_wrong_with_a_space_is_said(found, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_space(found)


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"there is no space file 'nowhere\.yaml'"):
        read_space("nowhere.yaml")


def test_a_grid_has_every_combination_once():
    space = Space(("fixed:{f}+topk:{k}", "topk:2"), {"f": (8, 16), "k": Range(1, 2)})
    assert space.grid() == [
        "fixed:8+topk:1",
        "fixed:8+topk:2",
        "fixed:16+topk:1",
        "fixed:16+topk:2",
        "topk:2",
    ]


def test_random_policies_are_different_and_come_back_with_the_seed():
    space = default_space(300)
    drawn = space.random(20, seed=1)
    assert len(set(drawn)) == 20
    assert drawn == space.random(20, seed=1) != space.random(20, seed=2)
    for text in drawn:
        Rejection.parse(text)


def test_a_small_space_ends_before_the_number_asked_for():
    assert sorted(Space(("topk:{k}",), {"k": (1, 2)}).random(10, seed=0)) == ["topk:1", "topk:2"]


def test_optuna_chooses_within_the_space():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = Space(("prob:{t}", "fixed:{f}"), {"t": Range(0.1, 0.2), "f": (3, 5)})
    chosen = {space.suggest(study.ask()) for _ in range(30)}
    assert {text.partition(":")[0] for text in chosen} == {"prob", "fixed"}
    for text in chosen:
        kind, _, value = text.partition(":")
        assert 0.1 <= float(value) <= 0.2 if kind == "prob" else int(value) in (3, 5)


def test_the_curve_of_the_paper_comes_first():
    space = Space(("topk:{k}",), {"k": (1, 3)})
    assert listed(space, "grid", trials=9, seed=0, num_names=10) == [
        "topk:1",
        "topk:2",
        "topk:4",
        "topk:8",
        "topk:3",
    ]
    assert listed(space, "optuna", trials=2, seed=0, num_names=10) == ["topk:1", "topk:2"]
    with pytest.raises(ValueError, match="give --trials 5"):
        listed(space, "grid", trials=4, seed=0, num_names=10)
