import numpy as np
import pytest

from pipelines.export import names


def name_all(uris, root):
    digests = [np.array([names.digest(names.stem(uri, root))], np.uint64) for uri in uris]
    twins = names.find_twins(digests)
    return [names.unique_name(uri, root, twins) for uri in uris]


def test_a_name_is_the_path_under_the_root():
    uris = ["/p/a/x.jpg", "/p/b/x.jpg", "/p/y.tar.png", "/p/no ending"]
    assert name_all(uris, "/p") == ["a/x", "b/x", "y.tar", "no ending"]


@pytest.mark.parametrize(
    "uris",
    [
        ["/p/x.jpg", "/p/x.png"],
        ["/p/x.jpg", "/p/X.jpg"],
        ["/p/\u00e9.jpg", "/p/e\u0301.jpg"],
        ["/p/a//x.jpg", "/p/a/_/x.jpg"],
        ["/p/" + "x" * 250 + "1", "/p/" + "x" * 250 + "2"],
    ],
)
def test_names_that_a_filesystem_takes_for_one_get_a_mark(uris):
    found = name_all([*uris, "/p/other.jpg"], "/p")
    assert found[-1] == "other"
    assert len({name.casefold() for name in found}) == len(uris) + 1
    assert all(len(part.encode()) < 240 for name in found for part in name.split("/"))
    assert found[:-1] == name_all(uris, "/p"), "a name does not depend on the other images"


def test_names_stay_inside_the_folder():
    uris = ["s3://b/../../etc/x.jpg", "s3://b/./x.jpg", "s3://b/a\nb/x\0.jpg", "s3://b/.jpg"]
    found = name_all(uris, "s3://b")
    assert found == ["_/_/etc/x", "_/x", "a_b/x_", ".jpg"]


def test_a_folder_is_never_called_like_a_mask():
    assert name_all(["/p/x.jpg", "/p/x.png/y.jpg"], "/p") == ["x", "x.png_/y"]


@pytest.mark.parametrize(
    ("folders", "common"),
    [
        (["/a/b", "/a/b/c"], "/a/b"),
        (["/a/b", "/a/b-c", "/a/b/z"], "/a"),
        (["/a", "/b"], ""),
        (["s3://a/x", "s3://a/y"], "s3://a"),
        (["s3://a/x", "s3://b/x"], "s3:/"),
        ([], ""),
    ],
)
def test_the_common_folder(folders, common):
    assert names.common_folder(folders) == common


def test_images_without_a_common_folder_keep_their_paths():
    assert names.stem("/a/x.jpg", "") == "a/x"
    assert names.stem("s3://b/x.jpg", "s3:/") == "b/x"
    assert names.stem("s3://b/x.jpg", "/elsewhere") == "b/x"


def test_class_names_stay_different_without_special_characters():
    assert names.without(["a:b", "a_b", "a;b", "c\nd", "c d"], ":;") == [
        *("a_b", "a_b_2", "a_b_3"),
        *("c d", "c d_2"),
    ]
