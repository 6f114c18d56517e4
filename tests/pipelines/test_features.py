"""Features are kept with the labels, and give the labels of other classes without the encoder."""

import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import sed
from pipelines import rows, scenes, shards, tensors
from pipelines.commit import Commit
from pipelines.features import ReadFeatures, bytes_per_image, open_features, size_in_words
from pipelines.label import label
from pipelines.labeller import Labeller
from pipelines.plan import LabelConfig, make_plan
from pipelines.storage import locate
from sed.config import base, nano
from sed.features import Essence

FIRST = ["grass", "sky", "red ball", "water"]
SECOND = ["striped umbrella", "brick wall", "grass", "sky", "blue box", "sand"]


@pytest.fixture(scope="module")
def model():
    return sed.load_model("nano")


def pixels_of(count):
    return [scenes.draw(0, number, split="seen", size=256).image_HW3 for number in range(count)]


def decoded(photos, shard=0, broken=()):
    """Return the rows of a shard as the first step gives them."""
    found = []
    for index, photo in enumerate(photos):
        row = {"shard": shard, "shard_size": len(photos), "image_uri": f"/photos/{index}.png"}
        if index in broken:
            row |= {"error_type": "Truncated", "message": "cut short"}
        else:
            height, width = photo.shape[:2]
            row |= {
                "image_sha256": f"digest {index}", "width": width, "height": height,
                "pixels": photo.tobytes(), "pixels_width": width, "pixels_height": height,
            }  # fmt: skip
        found.append(row)
    return pa.Table.from_pylist(found, schema=rows.DECODED)


def labeller(model, classes, **options):
    return Labeller(
        load_model=lambda device: model,
        load_text=lambda: model.embed_classes(classes).numpy(),
        classes=classes,
        rejection=sed.Rejection.parse(options.pop("rejection", "none")),
        **options,
    )


STAMP = dict.fromkeys(("vocabulary_id", "model_id", "rejection", "run_id"), "x")


@pytest.fixture
def kept(model, tmp_path):
    """The output of a shard of five images, one of them broken, with their features."""
    found = labeller(model, FIRST, keep_features=True)(decoded(pixels_of(5), broken=[2]))
    place = locate(str(tmp_path / "first"))
    Commit(place, FIRST, STAMP, keep_features=True)(found)
    return place


def test_the_essence_gives_the_scores_of_the_features(model):
    images = torch.from_numpy(np.stack(pixels_of(2))).permute(0, 3, 1, 2).float() / 255
    text_NPD = model.embed_classes(SECOND)
    features = model.encode(images)
    policy = sed.Rejection.parse("topk:2")
    direct = model.decode(features, text_NPD, policy)
    again = model.decode(model.condense(features), text_NPD, policy)
    for one, other in zip(direct, again, strict=True):
        assert torch.equal(one.candidates_K, other.candidates_K)
        assert torch.equal(one.logits_KHW, other.logits_KHW)


def test_a_batch_of_essences_is_split_and_stacked_again(model):
    images = torch.rand(3, 3, 256, 256)
    essence = model.condense(model.encode(images))
    again = Essence.stack(essence.split())
    assert torch.equal(again.embedding_BDHW, essence.embedding_BDHW)
    assert all(map(torch.equal, again.guidance, essence.guidance))


def test_packed_tensors_are_of_half_precision_and_finite():
    wanted = torch.tensor([[0.1, -2.0, 3.5], [1e6, -1e6, 1e-9]])
    (packed,) = tensors.pack([wanted])
    assert len(packed["values"]) == 2 * wanted.numel()
    (found,) = tensors.unpack([packed], "cpu")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-3, atol=0)
    assert found[1].tolist() == [65504, -65504, 0]


def test_what_is_kept_has_the_size_that_is_announced(kept):
    table = pq.read_table(pa.BufferReader(kept.at("features", "part-00000.parquet").read()))
    assert table.schema.equals(rows.FEATURES)
    assert table["image_uri"].to_pylist() == [f"/photos/{index}.png" for index in (0, 1, 3, 4)]
    for row in table.to_pylist():
        assert sum(len(one["values"]) for one in row["features"]) == bytes_per_image(nano())
    assert bytes_per_image(base()) == 1_769_472
    assert size_in_words(base(), 1000) == "1.77 MB an image, 1.8 GB in all, uncompressed"
    assert 0 < shards.size(kept, shards.FEATURES) < 5 * bytes_per_image(nano())


@pytest.mark.parametrize("rejection", ["none", "topk:3"])
def test_other_classes_from_features_are_those_from_pixels(model, kept, rejection):
    shard = {"shard": 0, "image_uris": [f"/photos/{index}.png" for index in range(5)]}
    read = [*ReadFeatures(kept)(pa.Table.from_pylist([shard], schema=rows.SHARD))]
    assert all(part.schema.equals(rows.DECODED) for part in read)
    make = labeller(model, SECOND, rejection=rejection)
    again = make(pa.concat_tables(read)).to_pylist()
    afresh = make(decoded(pixels_of(5), broken=[2])).to_pylist()
    assert [row["image_uri"] for row in again] == [row["image_uri"] for row in afresh]
    for one, other in zip(again, afresh, strict=True):
        for column in ("shard", "shard_size", "image_sha256", "width", "height", "error_type"):
            assert one[column] == other[column]
        if one["error_type"] is None:
            assert one["candidates"] == other["candidates"]
            assert one["mean_confidence"] == pytest.approx(other["mean_confidence"], abs=2e-3)
            pixels = {s["category_id"]: s["pixels"] for s in one["segments"]}
            wanted = {s["category_id"]: s["pixels"] for s in other["segments"]}
            moved = sum(abs(pixels.get(c, 0) - wanted.get(c, 0)) for c in {*pixels, *wanted})
            assert moved <= 0.004 * 256 * 256
    assert again[2]["error_type"] == "Truncated"
    assert again[2]["message"] == "cut short"


def test_features_that_lack_an_image_are_damaged(kept):
    shard = {"shard": 0, "image_uris": ["/photos/0.png", "/photos/other.png"]}
    with pytest.raises(ValueError, match=r"damaged.*other\.png"):
        [*ReadFeatures(kept)(pa.Table.from_pylist([shard], schema=rows.SHARD))]


def test_images_come_from_one_place(tmp_path):
    for wrong in ({}, {"images": "a", "features": "b"}):
        with pytest.raises(ValueError, match="either --images, or --features"):
            LabelConfig(output=str(tmp_path), classes=FIRST, **wrong)
    for wrong in ({"limit": 3}, {"keep_features": True}):
        with pytest.raises(ValueError, match="--features goes without"):
            LabelConfig(output=str(tmp_path), classes=FIRST, features="b", **wrong)


def test_features_of_nothing_are_refused(tmp_path):
    config = LabelConfig(output=str(tmp_path / "o"), classes=FIRST, features=str(tmp_path))
    with pytest.raises(ValueError, match="no output of label"):
        make_plan(config)
    with pytest.raises(ValueError, match="no output of label"):
        open_features(str(tmp_path))


def write_scenes(folder, count):
    folder.mkdir()
    for number, photo in enumerate(pixels_of(count)):
        Image.fromarray(photo).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"nothing")


def run_label(folder, classes, **options):
    config = LabelConfig(classes=classes, **options)
    return label(
        make_plan(config),
        connect=lambda: None,
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        experiment="features",
    )


def rows_of(output, part="labels"):
    return pq.read_table(output / part).sort_by("image_uri").to_pylist()


@pytest.mark.ray
def test_a_corpus_is_labelled_again_from_what_was_kept(local_ray, tmp_path):
    write_scenes(tmp_path / "in", 9)
    first, again, afresh = (tmp_path / name for name in ("first", "again", "afresh"))
    images = str(tmp_path / "in")
    run = run_label(tmp_path, FIRST, images=images, output=str(first), keep_features=True)
    assert run["features_bytes"] == sum(f.stat().st_size for f in (first / "features").iterdir())
    shutil.move(images, tmp_path / "gone")
    run = run_label(tmp_path, SECOND, features=str(first), output=str(again), rejection="topk:3")
    shutil.move(tmp_path / "gone", images)
    assert run["counts"] == {"inputs": 10, "labelled": 9, "errors": 1, "skipped": 0}
    run_label(tmp_path, SECOND, images=images, output=str(afresh), rejection="topk:3")
    assert [row["image_uri"] for row in rows_of(again, "errors")] == [f"{images}/broken.png"]
    for one, other in zip(rows_of(again), rows_of(afresh), strict=True):
        for column in ("image_uri", "image_sha256", "width", "height", "candidates", "rejection"):
            assert one[column] == other[column]
        masks = (np.array(Image.open(io.BytesIO(row["mask"]["bytes"]))) for row in (one, other))
        assert np.not_equal(*masks).mean() < 0.004
    refuse_what_does_not_fit(tmp_path, first, again, images)


def refuse_what_does_not_fit(tmp_path, first, again, images):
    """Features of another model, none at all, and an output that kept none until now."""
    other = tmp_path / "other.safetensors"
    sed.save_model(sed.SED(nano()), other)
    free = str(tmp_path / "free")
    for message, options in (
        ("of another model", {"features": str(first), "output": free, "model": str(other)}),
        ("kept no features", {"features": str(again), "output": free}),
        ("made with --keep-features", {"images": images, "output": str(first)}),
        ("are the same folder", {"features": str(first), "output": str(first), "overwrite": True}),
    ):
        with pytest.raises(ValueError, match=message):
            make_plan(LabelConfig(classes=FIRST, **options))
    place = locate(str(first))
    manifest = shards.read_manifest(place)
    shards.write_manifest(place, manifest.slice(1))
    same = LabelConfig(classes=SECOND, features=str(first), output=str(again), rejection="topk:3")
    with pytest.raises(ValueError, match="are others than when"):
        make_plan(same)
    shards.write_manifest(place, manifest)
    assert make_plan(same).is_done
