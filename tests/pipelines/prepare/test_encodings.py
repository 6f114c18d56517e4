import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

import sed
from pipelines.prepare.catalogue import BENCHMARKS
from pipelines.prepare.encodings import IGNORED, UNKNOWN, MaskError, original_values, table
from pipelines.prepare.layouts import ade20k, ade20k_full, coco_stuff, pascal_context, pascal_voc
from pipelines.prepare.layouts.pascal_voc import find_20, find_20b
from pipelines.storage import locate
from tests import replicas
from tests.fakes import encoded, plain_image
from tests.replicas import bands


@pytest.fixture(scope="module")
def published(shared_dir):
    """The label maps and class names of the official implementation."""
    folder = shared_dir / "spec" / "facts"
    return {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ("label_maps", "class_names")
    }


def known_classes(encoding):
    """Value -> class, of the values that are one."""
    return {value: int(c) for value, c in enumerate(encoding.class_V) if c >= 0}


def meaning(found):
    """Value -> class of a published table, without what is ignored."""
    return {int(value): index for value, index in found.items() if index != 255}


def test_the_tables_are_the_published_ones(published):
    maps = published["label_maps"]
    assert known_classes(coco_stuff.encoding()) == meaning(maps["coco_stuff171"])
    assert known_classes(ade20k_full.encoding()) == {
        int(number): index for number, index in maps["ade847_objid_to_train"].items()
    }
    assert known_classes(pascal_context.encoding_59()) == meaning(maps["pc59_catid_to_train"])
    assert known_classes(ade20k.encoding()) == {value: value - 1 for value in range(1, 151)}
    assert known_classes(pascal_context.encoding_459()) == {v: v - 1 for v in range(1, 460)}


@pytest.mark.parametrize(("find", "name"), [(find_20, "voc20"), (find_20b, "voc20b")])
def test_the_tables_of_voc_are_the_published_ones(published, tmp_path, find, name):
    replicas.make("pascal-voc-20", tmp_path)
    encoding = find(locate(str(tmp_path)), "val").encoding
    assert known_classes(encoding) == meaning(published["label_maps"][name])
    ignored = {v for v, index in published["label_maps"][name].items() if index == 255}
    assert {str(v) for v in np.flatnonzero(encoding.class_V == IGNORED)} == ignored
    assert pascal_voc.NUM_CLASSES == 20


def test_class_names_and_their_order_are_the_published_ones(published):
    names = {name: benchmark.vocabulary for name, benchmark in BENCHMARKS.items()}
    assert len(names) == 7
    for vocabulary in names.values():
        key = {"coco171": "coco"}.get(vocabulary, vocabulary)
        assert sed.vocabulary(vocabulary) == published["class_names"][key]
    assert BENCHMARKS["pascal-voc-20b"].asked == published["class_names"]["voc20b"]


def test_categories_of_59_classes_are_the_labels_of_459():
    many, few = sed.vocabulary("pc459"), sed.vocabulary("pc59")
    differing = {
        (many[value - 1], name)
        for value, name in zip(original_values("pascal-context-59"), few, strict=True)
        if many[value - 1] != name
    }
    assert differing == {("table", "diningtable")}


def test_what_is_no_class_is_ignored_or_unknown():
    class_V = table([3, 1], ignored=[0])
    assert class_V.tolist() == [IGNORED, 1, UNKNOWN, 0]
    assert table([3, 1], others=IGNORED, size=6).tolist() == [-1, 1, -1, 0, -1, -1]


@pytest.mark.parametrize(
    ("encoding", "value", "words"),
    [
        (coco_stuff.encoding(), 11, "not have: 11 .values like 11 are in no mask of COCO-Stuff"),
        (coco_stuff.encoding(), 182, "does not have: 182"),
        (ade20k.encoding(), 151, "scene parsing does not have: 151"),
        (ade20k.encoding(), 255, "255 is in no mask of ADE20K: was it converted"),
    ],
)
def test_a_value_that_a_dataset_does_not_have_is_named(encoding, value, words):
    good = encoded(Image.fromarray(bands([1, 10]).astype(np.uint8)))
    assert encoding.decode(good, 255).max() == encoding.class_V[10]
    wrong = encoded(Image.fromarray(bands([1, value]).astype(np.uint8)))
    with pytest.raises(MaskError, match=words):
        encoding.decode(wrong, 255)


def test_an_unlabelled_pixel_of_459_classes_is_ignored_and_never_wraps(tmp_path):
    """Subtracting 1 from an unsigned 0 gives 65535, which the official metric counts as a label."""
    path = replicas.save_matlab(tmp_path / "a.mat", bands([0, 1, 459]))
    assert scipy.io.loadmat(path)["LabelMap"].dtype == np.uint16
    found = pascal_context.encoding_459().decode(path.read_bytes(), 65535)
    assert np.array_equal(found, bands([65535, 0, 458]))
    path = replicas.save_matlab(tmp_path / "b.mat", bands([1, 460]))
    with pytest.raises(MaskError, match="LabelMap of Context does not have: 460"):
        pascal_context.encoding_459().decode(path.read_bytes(), 65535)


def test_of_two_segments_over_a_pixel_the_later_wins():
    whole, part = np.ones((6, 4), bool), bands([1, 0], 4, 6) == 1
    first = [replicas.segment(1, 9, whole), replicas.segment(1, 2, part)]
    segments = [{"category_id": s["category_id"], **s["segmentation"]} for s in first]
    encoding = pascal_context.encoding_59()
    assert np.array_equal(encoding.decode(segments, 255), np.where(part, 0, 1))
    assert np.array_equal(encoding.decode(segments[::-1], 255), np.ones((6, 4)))


def test_a_photo_is_no_mask():
    with pytest.raises(MaskError, match="a mask has one channel, not RGB"):
        ade20k.encoding().decode(encoded(plain_image("red")), 255)
    with pytest.raises(MaskError, match=r"a \*_seg.png of ADE20K is RGB, not L"):
        ade20k_full.encoding().decode(encoded(plain_image("red").convert("L")), 65535)
