"""One bad image costs one row, whatever is bad about it."""

import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import rows
from pipelines.decoder_process import child
from pipelines.decoding import Decode
from tests.nasty import sound_files, unsound_files
from tests.pipelines.test_label import Job


@pytest.fixture
def nasty(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in sound_files().items():
        (folder / name).write_bytes(content)
    for name, (content, _) in unsound_files().items():
        (folder / name).write_bytes(content)
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    return folder


def decoded(folder, **options):
    uris = [str(path) for path in sorted(folder.iterdir())]
    shard = pa.Table.from_pylist([{"shard": 0, "image_uris": uris}], schema=rows.SHARD)
    found = pa.concat_tables(Decode(short_side=64, long_side=256, **options)(shard)).to_pylist()
    assert [row["image_uri"] for row in found] == uris
    return {row["image_uri"].rpartition("/")[2]: row for row in found}


def test_there_are_enough_of_them(nasty):
    assert len(list(nasty.iterdir())) >= 60
    assert len(unsound_files()) >= 15


def test_unusual_images_are_read_and_damaged_ones_named(nasty):
    found = decoded(nasty)
    for name in sound_files():
        assert found[name]["error_type"] is None, (name, found[name]["message"])
        assert found[name]["pixels_width"] <= 256
    for name, (_, kind) in unsound_files().items():
        assert found[name]["error_type"] is not None, name
        assert kind in (None, found[name]["error_type"]), (name, found[name])
        assert found[name]["message"]
    assert found["dangling.png"]["error_type"] == "NotFound"


class Trap(Image.Image):
    """An image whose decoder does something else."""

    def load(self):
        self.spring()
        return super().load()


class Hangs(Trap):
    def spring(self):
        time.sleep(1000)


class Crashes(Trap):
    def spring(self):
        os._exit(139)


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """Two files whose decoders hang and crash, between two that are sound."""
    real = Image.open

    def trap(source):
        content = source.getvalue()
        for mark, kind in ((b"HANG", Hangs), (b"CRASH", Crashes)):
            if content.startswith(mark):
                image = kind()
                image._size, image._mode = (4, 4), "RGB"
                return image
        return real(source)

    monkeypatch.setattr(Image, "open", trap)
    child.cache_clear()  # the next child is a fork that knows the traps
    folder = tmp_path / "traps"
    folder.mkdir()
    for name, content in (
        ("1.png", None),
        ("2.png", b"HANG"),
        ("3.png", b"CRASH"),
        ("4.png", None),
    ):
        (folder / name).write_bytes(content or sound_files()["plain.png"])
    yield folder
    child(64, 256).pool.stop()
    child.cache_clear()


def test_a_decoder_that_hangs_or_crashes_costs_its_image_only(traps):
    found = decoded(traps, seconds=2.0)
    assert [row["error_type"] for row in found.values()] == [
        None,
        "TimedOut",
        "DecoderCrashed",
        None,
    ]
    assert "more than 2 seconds" in found["2.png"]["message"]


@pytest.mark.ray
def test_a_bucket_full_of_them_is_labelled(local_ray, nasty, tmp_path, random_checkpoint):
    run = Job(nasty, tmp_path / "out", random_checkpoint, tmp_path).run()
    inputs = sorted(str(path) for path in nasty.iterdir())
    labels = pq.read_table(tmp_path / "out/labels")["image_uri"].to_pylist()
    errors = pq.read_table(tmp_path / "out/errors")["image_uri"].to_pylist()
    assert sorted(labels + errors) == inputs
    assert len(labels) == len(sound_files())
    assert run["counts"]["errors"] == len(unsound_files()) + 1  # the link to nothing
