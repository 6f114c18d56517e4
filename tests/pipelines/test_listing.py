import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSystem, LocalFileSystem

from pipelines import shards
from pipelines.buckets import bucket_filesystem, is_outage
from pipelines.faults import check_seen, surroundings
from pipelines.listing import is_input, list_images
from pipelines.storage import Location, locate, open_buckets
from pipelines.walking import walk
from tests.proc import STATUS, kilobytes


def listed(images, column="image_uri", **options):
    return list_images(str(images), column=column, **options)


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.JPG",
        "a.png",
        "deep/er/c.jpeg",
        "no_ending",
        "notes.txt",
        "d.tar.gz",
        ".hidden",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "x/a.b.Png", "a", "s3://b/k/a.tiff", "s3://b.c/a"]
)
def test_names_of_images_and_names_without_ending_are_inputs(name):
    assert is_input(name)


@pytest.mark.parametrize("name", ["a.txt", "a.jpg.bak", ".DS_Store", "labels/part-0.parquet"])
def test_other_names_are_not(name):
    assert not is_input(name)


def test_a_folder_is_listed_with_all_below_it_sorted(folder):
    listing = listed(folder)
    names = ["a.png", "b.JPG", "deep/er/c.jpeg", "no_ending"]
    assert listing.image_uris.to_pylist() == [f"{folder}/{name}" for name in names]
    assert listing.skipped == 3


def test_relative_paths_and_file_uris_name_the_same_images(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert listed("photos") == listed(f"file://{folder}") == listed(f"{folder}/")


def test_a_limit_keeps_the_first(folder):
    assert listed(folder, limit=2).image_uris.equals(listed(folder).image_uris[:2])


def test_an_output_among_the_images_is_not_listed(folder):
    before = listed(folder)
    output = locate(str(folder / "out"))
    (folder / "out/report").mkdir(parents=True)
    (folder / "out/report/index.html").write_text("x")
    (folder / "out/shot.png").write_text("x")
    (folder / "outside.png").write_text("x")
    listing = listed(folder, without=output)
    assert listing.image_uris.to_pylist() == [
        *before.image_uris.to_pylist(),
        f"{folder}/outside.png",
    ]
    assert listing.skipped == before.skipped


def test_strange_characters_stay_as_they_are(tmp_path):
    names = ["100% sure.jpg", "a#b?.jpg", "blank  name.png", "über.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    listing = listed(tmp_path)
    assert listing.image_uris.to_pylist() == [f"{tmp_path}/{name}" for name in names]
    assert [locate(uri).read() for uri in listing.image_uris.to_pylist()] == [b"x"] * 4


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_list_of_uris_is_read_and_relative_ones_start_at_its_folder(folder, ending):
    path = folder.parent / f"list.{ending}"
    uris = [
        "photos/b.JPG",
        f"{folder}/a.png",
        f"file://{folder}/a.png",
        "notes.txt",
        "s3://b/k.png",
    ]
    table = pa.table({"uri": uris, "other": range(5)})
    if ending == "parquet":
        pq.write_table(table, path)
    elif ending == "csv":
        pyarrow.csv.write_csv(table, path)
    else:
        path.write_text("\n".join(f'{{"uri": "{uri}"}}' for uri in uris))
    listing = listed(path, column="uri")
    assert listing.image_uris.to_pylist() == [f"{folder}/a.png", f"{folder}/b.JPG", "s3://b/k.png"]
    assert listing.skipped == 1


@pytest.mark.parametrize("uris", [["b.png"] * 3, ["b.png", "a.png", "b.png", "c.png", "a.png"]])
def test_an_image_that_is_listed_again_counts_once(tmp_path, uris):
    pq.write_table(pa.table({"image_uri": uris}), tmp_path / "list.parquet")
    found = listed(tmp_path / "list.parquet").image_uris.to_pylist()
    assert found == [f"{tmp_path}/{name}" for name in sorted(set(uris))]


def test_one_image_is_a_corpus_too(folder):
    assert listed(folder / "a.png").image_uris.to_pylist() == [f"{folder}/a.png"]


def test_what_cannot_be_listed_is_said(folder, tmp_path):
    with pytest.raises(ValueError, match="nothing at"):
        listed(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no folder, no image and no list"):
        listed(folder / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in"):
        listed(tmp_path / "empty")
    with pytest.raises(ValueError, match="no path, file://"):
        listed("https://example.org/photos")


def test_a_list_without_the_column_or_with_an_empty_row_is_an_error(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("url,n\na.png,1\n")
    with pytest.raises(ValueError, match="no column 'image_uri'; it has 'url', 'n'"):
        listed(path)
    path.with_suffix(".jsonl").write_text('{"url": "a.png"}\n{"n": 1}\n')
    with pytest.raises(ValueError, match="no column 'image_uri'; it has 'url'"):
        listed(path.with_suffix(".jsonl"))
    path.write_text("image_uri,n\na.png,1\n,2\n")
    with pytest.raises(ValueError, match="row 1 of the list"):
        listed(path)
    (tmp_path / "list.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match="cannot be read"):
        listed(tmp_path / "list.parquet")


def test_a_list_of_nothing_but_what_cannot_be_read_is_said(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("image_uri\nhttps://host/a.jpg?size=1\nftp://host/b.jpg\n")
    with pytest.raises(
        ValueError, match=r"no URI .* gs://.*first is 'https://host/a\.jpg\?size=1'"
    ):
        listed(path)
    path.write_text("image_uri\nhttps://host/a.jpg\na.png\n")
    assert listed(path).image_uris.to_pylist() == [f"{tmp_path}/a.png", "https://host/a.jpg"]


NAMES = ["0001", "2024-01-01", "NA", "true"]


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("csv", "image_uri,n,m,m\n" + "".join(f"{name},1,2,3\n" for name in NAMES)),
        ("jsonl", "".join(f'{{"image_uri": "{name}", "n": [{{}}]}}\n' for name in NAMES)),
    ],
)
def test_a_name_in_a_list_stays_as_it_is_written(tmp_path, ending, content):
    (tmp_path / f"list.{ending}").write_text(content)
    found = listed(tmp_path / f"list.{ending}").image_uris.to_pylist()
    assert found == [f"{tmp_path}/{name}" for name in NAMES]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_column_that_is_there_twice_is_said(tmp_path, ending):
    path = tmp_path / f"list.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table([["a"], ["b"]], names=["image_uri"] * 2), path)
    else:
        twice = {"csv": "image_uri,image_uri\na,b\n", "jsonl": '{"image_uri": "", "image_uri": ""}'}
        path.write_text(twice[ending])
    with pytest.raises(ValueError, match=r"2 columns 'image_uri'|\(/image_uri\) .*twice in row 0"):
        listed(path)


def test_a_bucket_is_listed_and_read(s3_bucket):
    for key in ("in/b.JPG", "in/deep/a b#1%.png", "in/notes.txt", "other/c.png"):
        locate(f"{s3_bucket}/{key}").write(key.encode())
    listing = listed(f"{s3_bucket}/in")
    assert listing.image_uris.to_pylist() == [
        f"{s3_bucket}/in/b.JPG",
        f"{s3_bucket}/in/deep/a b#1%.png",
    ]
    assert listing.skipped == 1
    assert listed(f"{s3_bucket}/in/") == listing
    assert locate(listing.image_uris[1].as_py()).read() == b"in/deep/a b#1%.png"
    assert len(listed(s3_bucket).image_uris) == 3


def test_a_missing_prefix_or_bucket_is_said(s3_bucket):
    with pytest.raises(ValueError, match="nothing at"):
        listed(f"{s3_bucket}/nowhere")
    with pytest.raises((ValueError, OSError)):
        listed("s3://no-such-bucket-here/in")


def test_a_worker_reads_with_the_filesystem_it_was_sent(s3_bucket, monkeypatch):
    locate(f"{s3_bucket}/x.png").write(b"content")
    filesystems = open_buckets(pa.array([f"{s3_bucket}/x.png", "/local/y.png"]))
    assert list(filesystems) == [s3_bucket]
    assert isinstance(filesystems[s3_bucket], FileSystem)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert locate(f"{s3_bucket}/x.png", filesystems).read() == b"content"


def test_an_outage_is_told_from_a_missing_object(s3_bucket, monkeypatch):
    with pytest.raises(FileNotFoundError) as missing:
        locate(f"{s3_bucket}/nothing.png").read()
    assert not is_outage(missing.value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket_filesystem.cache_clear()
    with pytest.raises(OSError, match="NETWORK_CONNECTION") as dead:
        locate(f"{s3_bucket}/nothing.png").read()
    assert is_outage(dead.value)


def test_writing_leaves_the_file_whole_or_not_there(tmp_path):
    place = locate(str(tmp_path / "new" / "file"))
    place.write(b"one")
    place.write(b"two")
    assert place.read() == b"two"
    with pytest.raises(TypeError):
        place.write("no bytes")
    assert place.read() == b"two"
    assert [info.base_name for info in locate(str(tmp_path / "new")).files()] == ["file"]


def test_links_are_followed_but_not_round_in_a_circle(folder, tmp_path, caplog):
    before = listed(folder).image_uris.to_pylist()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(folder / "a.png")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "deep/er/up").symlink_to(folder)
    (tmp_path / "outside/self").symlink_to(tmp_path / "outside")
    (folder / "nothing.png").symlink_to(folder / "nowhere.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    os.mkfifo(folder / "pipe.png")
    more = ["link.png", "linked/x.png", "nothing.png", "circle.png"]
    expected = sorted([*before, *(f"{folder}/{name}" for name in more)])
    assert listed(folder).image_uris.to_pylist() == expected
    assert f"{folder}/deep/er/up leads back" in caplog.text
    assert f"{folder}/linked/self leads back" in caplog.text


def test_a_name_that_is_not_utf_8_is_skipped_counted_and_named(folder, caplog):
    before = listed(folder)
    assert not caplog.records
    os.mkdir(bytes(folder) + b"/caf\xe9")  # noqa: PTH102
    for name in (b"/\xff.png", b"/caf\xe9/in.png"):
        Path(os.fsdecode(bytes(folder) + name)).write_bytes(b"x")
    listing = listed(folder, without=locate(str(folder / "out")))
    assert listing.image_uris.equals(before.image_uris)
    assert listing.skipped == before.skipped + 2
    assert "2 files skipped: their paths are not UTF-8" in caplog.text
    assert "\\udcff.png" in caplog.text or "caf\\udce9/in.png" in caplog.text


def test_a_folder_that_cannot_be_listed_is_an_error(folder):
    with pytest.raises(OSError, match="File name too long"):
        list(walk(LocalFileSystem(), str(folder / ("x" * 300))))


def test_the_log_says_how_many_files_were_found_so_far(folder, caplog, monkeypatch):
    caplog.set_level("INFO")
    assert sum(map(len, walk(LocalFileSystem(), str(folder)))) == 7
    assert not caplog.records
    monkeypatch.setattr("pipelines.walking.SECONDS_BETWEEN_LINES", 0)
    assert sum(map(len, walk(LocalFileSystem(), str(folder)))) == 7
    assert caplog.messages == [f"Listing {folder}: {count} files so far" for count in range(1, 8)]


MILLION = 10**6
MEGABYTE = 2**20


def folders_of_1000(folder):
    """What `Location.walk` yields of a million photos: the paths in one folder after the other."""
    for first in range(0, MILLION, 1000):
        inside = f"{folder.path}/camera-{first // 1000:04d}/2024-01-01"
        yield [f"{inside}/photo-{index:09d}.jpg" for index in range(first, first + 1000)]


def write_list_of_a_million(folder):
    paths = pa.chunked_array(map(pa.array, folders_of_1000(locate(str(folder)))))
    pq.write_table(pa.table({"image_uri": paths}), folder / "list.parquet")
    return folder / "list.parquet"


def memory_of_walking(folder):
    """Count the files below a folder; return how many, and the bytes at the peak.

    To be called in a process of its own.
    """
    place = locate(str(folder))
    sum(len(paths) for paths in place.at("warm").walk())
    before = kilobytes("VmRSS")
    return sum(len(paths) for paths in place.walk()), 1024 * (kilobytes("VmHWM") - before)


FLAT = 150_000


@pytest.mark.skipif(not STATUS.exists(), reason="reads what Linux says")
def test_a_large_flat_folder_is_walked_in_the_memory_of_a_piece_of_it(tmp_path):
    (tmp_path / "warm").mkdir()
    first = tmp_path / "warm/photo.jpg"
    first.touch()
    for index in range(FLAT):
        if index % 50_000 == 0:  # a file takes no more links on some filesystems
            first = tmp_path / f"photo-{index:09d}.jpg"
            first.touch()
        else:
            os.link(first, f"{tmp_path}/photo-{index:09d}.jpg")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        found, peak = process.submit(memory_of_walking, tmp_path).result()
    assert found == FLAT + 1
    assert peak < 20 * MEGABYTE


def memory_of_planning(images):
    """List and put into shards; return the images, the shards left and the bytes at the peak.

    To be called in a process of its own.
    """
    Location.walk = folders_of_1000
    before = kilobytes("VmRSS")
    uris = listed(images).image_uris
    with suppress(FileNotFoundError):  # there are no such folders
        check_seen(uris)
    manifest = shards.extend(shards.no_manifest(), uris)
    surroundings(manifest["image_uri"])
    shards.list_digest(manifest)
    todo = shards.remaining(manifest, set(range(0, 10_000, 2)))
    return len(manifest), len(todo), 1024 * (kilobytes("VmHWM") - before)


@pytest.mark.skipif(not STATUS.exists(), reason="reads what Linux says")
@pytest.mark.parametrize("kind", ["folder", "list"])
def test_a_million_images_are_planned_in_bounded_memory(tmp_path, kind):
    images = tmp_path if kind == "folder" else write_list_of_a_million(tmp_path)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        found, left, peak = process.submit(memory_of_planning, images).result()
    assert found == MILLION
    assert left == MILLION // shards.SHARD_SIZE - 5000
    assert peak < 600 * MEGABYTE
