"""Checkpoints: whole or not at all, the newest and the best ones kept, in a folder or a bucket."""

import threading

import pytest

from pipelines.checkpoints import RECORD, Store
from pipelines.storage import locate


def text(content):
    return lambda path: path.write_text(content)


def save(store, step, score=None, content="weights"):
    store.save(step, {"model": text(content), "state": text("s" * 50)}, {"score": score})
    store.wait()


def steps(store):
    return [saved.step for saved in store.saved()]


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    place = str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3_bucket")
    return Store(locate(f"{place}/run/checkpoints"), keep=2)


def test_the_newest_and_the_best_are_kept(store):
    assert store.newest() is None
    assert store.best() is None
    for step, score in ((1, 30.0), (2, 50.0), (3, 40.0), (4, None), (5, 45.0)):
        save(store, step, score)
    assert steps(store) == [2, 4, 5]
    assert store.newest().step == 5
    assert store.best().step == 2


def test_a_checkpoint_comes_back_as_it_was(store, tmp_path):
    save(store, 3, content="these weights")
    store.newest().fetch(tmp_path)
    assert (tmp_path / "model").read_text() == "these weights"
    assert (tmp_path / "state").read_text() == "s" * 50


def test_what_a_kill_left_or_cut_is_passed_over_and_cleared_away(store):
    for step in (1, 2, 3):
        save(store, step)
    store.place.at("step-0000003", "model").write(b"cut")
    assert store.newest().step == 2
    store.place.at("step-0000002", RECORD).remove()
    assert store.newest() is None
    store.place.at("step-0000001", f".model.{0:032x}").write(b"as a kill amid the first file")
    save(store, 4)
    assert steps(store) == [4]
    assert [step for step, _ in store.folders()] == [4]


def test_a_changed_file_of_the_same_size_is_passed_over_and_noticed_when_it_is_read(
    store, tmp_path, caplog
):
    save(store, 1, content="abcd")
    save(store, 2, content="abcd")
    store.place.at("step-0000002", "model").write(b"abce")
    assert store.newest().step == 1
    assert "step-0000002/model is damaged" in caplog.text
    with pytest.raises(ValueError, match="step-0000002/model is damaged"):
        store.saved()[-1].fetch(tmp_path)


def test_writing_goes_on_beside_the_training_one_at_a_time(tmp_path):
    store = Store(locate(str(tmp_path)))
    may_write, order = threading.Event(), []

    def slow(path):
        may_write.wait(20)
        order.append("written")
        path.write_text("x")

    store.save(1, {"model": slow}, {})
    order.append("training goes on")
    assert store.newest() is None
    threading.Timer(0.2, may_write.set).start()
    store.save(2, {"model": text("y")}, {})  # waits for the first
    order.append("second begun")
    store.wait()
    assert order == ["training goes on", "written", "second begun"]
    assert steps(store) == [1, 2]


def test_what_could_not_be_written_is_raised_at_the_next_checkpoint(tmp_path):
    def full(path):
        raise OSError("no space left")

    store = Store(locate(str(tmp_path)))
    save(store, 1)
    store.save(2, {"model": full}, {})
    with pytest.raises(OSError, match="no space left"):
        store.save(3, {"model": text("z")}, {})
    assert store.newest().step == 1
    save(store, 3)
    assert store.newest().step == 3
