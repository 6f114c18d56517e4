"""An image that cannot be read, told from a disk, a mount or a node without the images."""

import errno
import os
import re
import socket
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.decoding import Decode
from pipelines.faults import local_folders, surroundings
from pipelines.listing import list_images
from pipelines.plan import LabelConfig, make_plan
from pipelines.storage import Location
from tests.fakes import write_photos


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 3)
    return tmp_path / "photos"


def image_uris(folder):
    return list_images(str(folder), column="").image_uris


def errors_of(folder, uris):
    """The kind of error of each image, as a worker sees it that was sent there by the driver."""
    step = Decode(64, 256, around=surroundings(image_uris(folder)))
    table = pa.Table.from_pylist([{"shard": 0, "image_uris": uris}])
    return [row["error_type"] for row in pa.concat_tables(step(table)).to_pylist()]


def test_an_image_that_is_missing_costs_one_row(photos):
    uris = [f"{photos}/photo00.png", f"{photos}/nothing.png"]
    assert errors_of(photos, uris) == [None, "NotFound"]


@pytest.mark.parametrize("mount_point_stays", [False, True])
def test_images_that_go_away_with_their_folder_end_the_job(photos, mount_point_stays):
    uris = image_uris(photos)
    step = Decode(64, 256, around=surroundings(uris))
    photos.rename(photos.parent / "elsewhere")
    if mount_point_stays:
        photos.mkdir()
    node = socket.gethostname()
    with pytest.raises(OSError, match=rf"photos is missing or empty on {node}: .* all nodes see"):
        step.fetch(uris[0].as_py())


def test_a_folder_that_the_driver_does_not_see_costs_rows(photos):
    listed = pa.array([f"{photos}/photo00.png", "/nowhere/at/all.png"])
    step = Decode(64, 256, around=surroundings(listed))
    assert isinstance(step.fetch("/nowhere/at/all.png"), FileNotFoundError)


def test_the_folders_of_images_are_those_that_all_of_a_top_folder_have_in_common():
    uris = ["/a/b/c/1.png", "/a/b/c2.png", "/d/e/1.png", "/d/e/2.png", "/f.png", "s3://b/k.png"]
    later = ["/a/b/0.png"]
    assert local_folders(pa.chunked_array([uris, later])) == ["/a/b", "/d/e"]


def test_a_mount_beside_others_that_goes_away_ends_the_job(photos, tmp_path):
    write_photos(tmp_path / "mount", 2)
    uris = pa.concat_arrays([image_uris(photos), image_uris(tmp_path / "mount")])
    assert local_folders(uris) == [f"{tmp_path}/mount", str(photos)]
    step = Decode(64, 256, around=surroundings(uris))
    (tmp_path / "mount").rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="mount is missing or empty"):
        step.fetch(f"{tmp_path}/mount/photo00.png")
    assert isinstance(step.fetch(f"{photos}/none.png"), FileNotFoundError)


def test_of_very_many_folders_the_one_around_them_is_looked_at(monkeypatch):
    monkeypatch.setattr("pipelines.faults.MOST_FOLDERS", 2)
    uris = [f"/a/b/{name}/1.png" for name in "xyz"]
    assert local_folders(pa.array(uris[:2])) == ["/a/b/x", "/a/b/y"]
    assert local_folders(pa.array(uris)) == ["/a/b"]


def test_a_list_all_of_whose_images_are_in_no_folder_is_said_before_the_job(
    photos, tmp_path, random_checkpoint
):
    config = LabelConfig(
        images=str(tmp_path / "list.csv"),
        output=str(tmp_path / "out"),
        classes=["red", "green"],
        model=str(random_checkpoint),
    )
    (tmp_path / "list.csv").write_text("image_uri\ngone/a.png\ngone/b.png\n")
    with pytest.raises(FileNotFoundError, match=r"there is no image: the folder .*/gone is"):
        make_plan(config)
    (tmp_path / "list.csv").write_text("image_uri\ngone/a.png\ntoo/b.png\n")
    with pytest.raises(FileNotFoundError, match=r"the folder .*/gone and .*/too is missing"):
        make_plan(config)
    (tmp_path / "list.csv").write_text("image_uri\ngone/a.png\nphotos/photo00.png\n")
    assert make_plan(config).around.folders == [str(photos)]


def fail_with(monkeypatch, name, *paths):
    """Let these files fail as on a damaged disk."""
    original, number = Location.read_at_most, getattr(errno, name)

    def read_at_most(place, limit):
        if place.path in paths:
            raise OSError(number, os.strerror(number))
        return original(place, limit)

    monkeypatch.setattr(Location, "read_at_most", read_at_most)


@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
def test_one_damaged_file_costs_one_row(photos, monkeypatch, name):
    uris = image_uris(photos).to_pylist()
    fail_with(monkeypatch, name, uris[1])
    assert errors_of(photos, uris) == [None, "Unreadable", None]
    assert errors_of(photos, uris[1:2]) == ["Unreadable"]


@pytest.mark.parametrize("name", ["EIO", "ENOTCONN", "EMFILE", "ENOMEM"])
def test_a_disk_of_which_nothing_can_be_read_ends_the_job(photos, monkeypatch, name):
    uris = image_uris(photos).to_pylist()
    fail_with(monkeypatch, name, uris[1])
    if name == "EIO":
        for path in (uris[0], uris[2]):
            Path(path).unlink()
    with pytest.raises(OSError, match=re.escape(os.strerror(getattr(errno, name)))):
        errors_of(photos, [uris[1], uris[0], uris[2]])


def test_a_file_on_another_disk_shows_nothing(photos, monkeypatch):
    uris = image_uris(photos).to_pylist()
    fail_with(monkeypatch, "EIO", uris[0])
    elsewhere = "/proc/self/status"
    if not Path(elsewhere).exists():
        pytest.skip("reads what Linux says")
    with pytest.raises(OSError, match="Input/output error"):
        Decode(64, 256).fetch(uris[0], [uris[0], elsewhere])
    assert isinstance(Decode(64, 256).fetch(uris[0], [uris[1]]), OSError)
