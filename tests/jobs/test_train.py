"""The command line of training: what is refused before anything starts."""

import json

import pytest

from jobs.train import Args, main


def args(tmp_path, **changes):
    values = {"dataset": (("scenes",),), "output": str(tmp_path / "out"), "max_steps": 4}
    return Args(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": ()}, "one dataset"),
        ({"dataset": (("cityscapes",),)}, "cityscapes"),
        ({"dataset": (("scenes", "scenes"),)}, "one dataset"),
        ({"dataset": (("scenes-unseen",),)}, "not on 'scenes-unseen'"),
        ({"dataset": (("labels=nowhere",),)}, "no output of label"),
        ({"likely_share": 1.5}, "--likely-share"),
        ({"overlap_weight": -1.0}, "--overlap-weight"),
        ({"asked": ()}, "--asked"),
        ({"validation": (("cityscapes",),)}, "cityscapes"),
        ({"model": "base"}, "base"),
        ({"model": "nowhere.pth"}, "nowhere.pth"),
        ({"workers": 0}, "--workers"),
        ({"max_steps": 0}, "--max-steps"),
        ({"batch_size": 5, "workers": 2}, "multiple"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"scene_size": 100}, "multiple of 64"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(tmp_path, capsys, changes, words):
    with pytest.raises(SystemExit) as stopped:
        main(args(tmp_path, **changes))
    assert stopped.value.code == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert words in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


def test_an_output_of_another_training_is_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "train.json").write_text(json.dumps({"digest": "sha256:other"}))
    with pytest.raises(SystemExit) as stopped:
        main(args(tmp_path))
    assert stopped.value.code == 2
    assert "other settings" in capsys.readouterr().err
