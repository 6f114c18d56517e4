import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.prepare.layouts import find_pairs
from pipelines.prepare.reading import PairError, ReadPair, reduce
from pipelines.storage import locate
from tests import replicas
from tests.fakes import encoded
from tests.replicas import bands


def pairs_of(tmp_path, name="ade20k-150", **options):
    replica = replicas.make(name, tmp_path, **options)
    return replica, find_pairs(name, locate(str(replica.source)), "val")


def error_of(pairs, *, whole=False):
    with pytest.raises(PairError) as raised:
        ReadPair.of(pairs, whole=whole).row(pairs.table.to_pylist()[0])
    return raised.value.kind, str(raised.value)


def test_an_image_and_a_mask_of_other_sizes_are_named(tmp_path):
    replica, pairs = pairs_of(tmp_path, count=1)
    replicas.save_photo(replica.images[replica.ids[0]], 30, 20)
    assert error_of(pairs) == (
        "SizesDiffer",
        "images/validation/ADE_val_00000001.jpg has 30 x 20 pixels, "
        "annotations/validation/ADE_val_00000001.png has 40 x 36",
    )


def test_a_mask_that_forgets_how_the_camera_was_held_is_named(tmp_path):
    replica, pairs = pairs_of(tmp_path, count=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.new("RGB", (replicas.WIDTH, replicas.HEIGHT), "red")
    photo.save(replica.images[replica.ids[0]], exif=exif)
    kind, message = error_of(pairs)
    assert kind == "SizesDiffer"
    assert message.endswith("(the mask does not follow the image's EXIF orientation, 6)")
    turned = bands([1], replicas.HEIGHT, replicas.WIDTH)
    replicas.save_mask(replica.masks[replica.ids[0]], turned)
    (row,) = ReadPair.of(pairs)(pairs.table).to_pylist()
    assert (row["width"], row["height"]) == (replicas.HEIGHT, replicas.WIDTH)


def test_a_truncated_image_is_found_where_all_of_it_is_read(tmp_path):
    replica, pairs = pairs_of(tmp_path, count=1)
    path = replica.images[replica.ids[0]]
    path.write_bytes(path.read_bytes()[:-300])
    ReadPair.of(pairs)(pairs.table)  # its header is whole
    kind, message = error_of(pairs, whole=True)
    assert kind == "DamagedImage"
    assert message.startswith("images/validation/ADE_val_00000001.jpg: image file is truncated")


@pytest.mark.parametrize("name", ["ade20k-150", "ade20k-847", "pascal-context-459"])
def test_a_damaged_mask_is_named(tmp_path, name):
    replica, pairs = pairs_of(tmp_path, name, count=1)
    path = replica.masks[replica.ids[0]]
    path.write_bytes(path.read_bytes()[:-30])
    kind, message = error_of(pairs)
    assert kind == "DamagedMask"
    assert message.startswith(str(path.relative_to(replica.top)))


def test_segments_that_are_none_name_their_image(tmp_path):
    _, pairs = pairs_of(tmp_path, "pascal-context-59", count=1)
    table = pairs.table.to_pylist()
    table[0]["segments"][0]["size"] = [3, 3]
    with pytest.raises(PairError, match=r"trainval_merged.json \(2008_000001\): segments of one"):
        ReadPair.of(pairs).row(table[0])


def test_a_file_that_is_gone_or_no_image_is_named(tmp_path):
    replica, pairs = pairs_of(tmp_path, count=1)
    path = replica.images[replica.ids[0]]
    path.write_bytes(b"<html>")
    assert error_of(pairs)[0] == "DamagedImage"
    path.unlink()
    kind, message = error_of(pairs)
    assert kind == "Unreadable"
    assert message.startswith("images/validation/ADE_val_00000001.jpg: ")


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((700, 600), (597, 512)),
        ((1000, 2001), (512, 1025)),  # 1024.51
        ((512, 900), (512, 900)),
        ((300, 2000), (300, 2000)),
    ],
)
def test_only_short_sides_over_512_of_847_classes_are_reduced(tmp_path, size, wanted):
    replica, pairs = pairs_of(tmp_path, "ade20k-847", count=1, size=size)
    (row,) = ReadPair.of(pairs, whole=True)(pairs.table).to_pylist()
    assert (row["width"], row["height"]) == wanted
    photo = Image.open(io.BytesIO(row["image"]["bytes"]))
    mask = Image.open(io.BytesIO(row["mask"]["bytes"]))
    assert photo.size == mask.size == wanted
    assert photo.format == "JPEG"
    untouched = row["image"]["bytes"] == replica.images[replica.ids[0]].read_bytes()
    assert untouched == (size == wanted)


def test_reducing_takes_the_pixels_that_the_protocol_takes():
    """Without a low-pass: a third as large means every third pixel, the one in the middle."""
    stripes_HW = np.tile(np.array([0, 60, 255], dtype=np.uint8), (576, 256))
    mask_HW = np.random.default_rng(0).integers(0, 847, stripes_HW.shape).astype(np.uint16)
    photo = encoded(Image.fromarray(stripes_HW).convert("RGB"))
    data, small_HW = reduce(photo, mask_HW, 192)
    assert np.array_equal(small_HW, mask_HW[::3, ::3])  # not the middle: the protocol rounds down
    found_HW = np.array(Image.open(io.BytesIO(data)).convert("L"))
    assert found_HW.shape == (192, 256)
    assert np.abs(found_HW.astype(int) - 60).max() <= 1


def test_the_nearest_pixel_is_that_of_torch():
    mask_HW = np.arange(700 * 611).reshape(700, 611).astype(np.uint32)
    photo = encoded(Image.new("RGB", (611, 700)))
    _, small_HW = reduce(photo, mask_HW, 512)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(mask_HW.astype(np.float64))[None, None], small_HW.shape, mode="nearest"
    )[0, 0]
    assert np.array_equal(small_HW, wanted.numpy())


def test_what_ends_a_job_says_how_to_go_on(tmp_path):
    replica, pairs = pairs_of(tmp_path)
    replica.masks[replica.ids[1]].unlink()
    with pytest.raises(PairError, match=r"python -m jobs.prepare lists all that cannot be used"):
        ReadPair.of(pairs)(pairs.table)


def test_errors_keep_their_kind_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(PairError("SizesDiffer", "a is not b")))
    assert (error.kind, str(error)) == ("SizesDiffer", "a is not b")


def test_other_bytes_or_names_are_another_dataset(tmp_path):
    replica, pairs = pairs_of(tmp_path)
    again = find_pairs(pairs.name, locate(str(replica.source)), "val")
    assert (again.digest, again.plan_id) == (pairs.digest, pairs.plan_id)
    replicas.save_photo(replica.images[replica.ids[0]], 41, 36)
    changed = find_pairs(pairs.name, locate(str(replica.source)), "val")
    assert changed.digest != pairs.digest
    assert changed.plan_id == pairs.plan_id  # a repaired file is the same pair
    fewer = dataclasses.replace(pairs, table=pairs.table.slice(1))
    assert fewer.plan_id != pairs.plan_id
