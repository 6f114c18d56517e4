import numpy as np
import pyarrow as pa
import pytest

from pipelines import scenes
from pipelines.cluster import Pool
from pipelines.datasets import draw_scenes, load
from pipelines.evaluate import counters, evaluate
from pipelines.evaluation.counting import Counter
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
    counter = Counter(rejections=REJECTIONS, num_classes=len(classes))
    predicted = predict_all(rows.to_pylist(), len(classes), REJECTIONS)
    found = []
    for counts in counter(predicted).to_pylist():
        result = Result.empty(labelled(classes, num_images), counts["rejection"])
        result.add(counts)
        result.finish()
        found.append(result)
    return found


@pytest.mark.ray
def test_one_worker_and_two_count_what_a_plain_loop_counts(local_ray):
    expected = by_loop(11)
    for workers, batch_size in [(1, 3), (2, 4)]:
        data = load("scenes", limit=11, seed=5)
        data = labelled(
            data.classes, 11, rows=data.rows.map_batches(damage, batch_format="pyarrow")
        )
        found = evaluate(
            data,
            load_model=load_by_grey,
            rejections=REJECTIONS,
            pool=Pool(size=workers, num_cpus=1, num_gpus=0, threads=1),
            batch_size=batch_size,
        )
        assert [one.rejection for one in found] == REJECTIONS
        for one, other in zip(found, expected, strict=True):
            assert one.document() == other.document()
            assert one.worst.sorted() == other.worst.sorted()
            assert np.array_equal(one.matrix.counts, other.matrix.counts)
    assert [one.images for one in found] == [9, 9]
    assert [error["error_type"] for error in found[0].errors] == ["BadPhoto", "BadMask"]
    assert not np.array_equal(found[0].matrix.counts, found[1].matrix.counts)


@pytest.mark.parametrize(
    ("cpus", "size", "num_cpus"),
    [(1, 1, 0), (2, 1, 1), (4, 2, 1), (4, 4, 0), (64, 32, 1), (2, 8, 0)],
)
def test_actors_never_hold_the_last_cpu(cpus, size, num_cpus):
    workers, share = counters(Pool(size=size, num_cpus=num_cpus, num_gpus=0, threads=1), cpus)
    assert workers >= 1
    assert cpus - size * num_cpus - workers * share >= 1
