import numpy as np
import pyarrow as pa
import pytest

from pipelines import scenes
from pipelines.cluster import Pool
from pipelines.datasets import draw_scenes, load
from pipelines.evaluate import evaluate
from pipelines.evaluation.counting import Count
from pipelines.results import Result
from pipelines.rows import PREPARED
from tests.pipelines.evaluation.by_grey import labelled, load_by_grey, predict_all

REJECTIONS = ["none", "fixed:3"]


def damage(batch):
    """Cut the photo of one scene, and empty the mask of another."""
    rows = batch.to_pylist()
    for row in rows:
        if row["image_id"].endswith("3"):
            row["image"]["bytes"] = row["image"]["bytes"][:200]
        if row["image_id"].endswith("7"):
            row["mask"]["bytes"] = b""
    return pa.Table.from_pylist(rows, schema=PREPARED)


def by_loop(num_images):
    """What a plain loop finds: one batch of everything, no Ray."""
    classes = scenes.vocabulary()
    rows = damage(draw_scenes(pa.table({"id": range(num_images)}), split="seen", seed=5))
    count = Count(rejections=REJECTIONS, num_classes=len(classes))
    predicted = predict_all(rows.to_pylist(), len(classes), REJECTIONS)
    found = []
    for counts in count(predicted).to_pylist():
        result = Result.empty(labelled(classes, num_images), counts["rejection"])
        result.add(counts)
        result.finish()
        found.append(result)
    return found


@pytest.mark.ray
def test_two_workers_count_what_a_plain_loop_counts(local_ray):
    expected = by_loop(11)
    drawn = load("scenes", limit=11, seed=5)
    rows = drawn.rows.map_batches(damage, batch_format="pyarrow")
    found = evaluate(
        labelled(drawn.classes, 11, rows=rows),
        load_model=load_by_grey,
        rejections=REJECTIONS,
        pool=Pool(size=2, num_cpus=1, num_gpus=0, threads=1),
        batch_size=4,
    )
    assert [one.rejection for one in found] == REJECTIONS
    for one, other in zip(found, expected, strict=True):
        assert one.document() == other.document()
        assert one.worst.sorted() == other.worst.sorted()
        assert np.array_equal(one.matrix.counts, other.matrix.counts)
    assert [one.images for one in found] == [9, 9]
    assert [error["error_type"] for error in found[0].errors] == ["BadPhoto", "BadMask"]
    assert not np.array_equal(found[0].matrix.counts, found[1].matrix.counts)
