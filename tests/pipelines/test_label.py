import hashlib
import io
import json
import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import current_thread, get_ident
from types import SimpleNamespace

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco

import sed
from pipelines import cluster, masks, rows, shards
from pipelines.buckets import bucket_filesystem
from pipelines.commit import Commit
from pipelines.decoding import Decode
from pipelines.label import label, spread
from pipelines.labeller import Labeller, use_threads
from pipelines.plan import LabelConfig, make_plan
from pipelines.storage import locate
from sed.upsample import label_map
from tests.fakes import ColourModel, plain_image, write_photos
from tests.pipelines import test_storage_faults

proxy = test_storage_faults.proxy
CLASSES = ["red", "green", "blue"]


def make_labeller(classes=CLASSES, rejection="none", model=ColourModel, **options):
    return Labeller(
        load_model=model,
        load_text=lambda: ColourModel().embed_classes(classes).numpy(),
        classes=classes,
        rejection=sed.Rejection.parse(rejection),
        **options,
    )


def decoded(folder, names):
    shard = {"shard": 0, "image_uris": [str(folder / name) for name in names]}
    decode = Decode(short_side=64, long_side=256)
    return pa.concat_tables(decode(pa.Table.from_pylist([shard], schema=rows.SHARD)))


def labelled(folder, names, **options):
    return make_labeller(**options)(decoded(folder, names)).to_pylist()


def pixels(file):
    return np.array(Image.open(io.BytesIO(file["bytes"])))


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 4)
    return tmp_path / "photos"


def test_a_scheme_that_is_not_known_costs_one_row(photos):
    uris = ["https://host/a.jpg", str(photos / "photo00.png")]
    shard = pa.Table.from_pylist([{"shard": 0, "image_uris": uris}], schema=rows.SHARD)
    wrong, right = pa.concat_tables(Decode(short_side=64, long_side=256)(shard)).to_pylist()
    assert wrong["error_type"] == "Unreadable"
    assert "https://host/a.jpg" in wrong["message"]
    assert right["error_type"] is None


def test_an_output_with_nothing_but_a_draft_of_a_killed_start_is_free(tmp_path):
    place = locate(str(tmp_path))
    place.at("run.json").write(b"{}")
    (tmp_path / "run.json").rename(tmp_path / f".run.json.{'0f' * 16}")
    assert place.is_empty()
    (tmp_path / ".profile").write_text("x")
    assert not place.is_empty()


def test_decoding_keeps_every_row_and_says_what_is_wrong(photos):
    (photos / "empty.png").write_bytes(b"")
    (photos / "fake.jpg").write_bytes(b"<html>")
    (photos / "cut.png").write_bytes((photos / "photo00.png").read_bytes()[:60])
    names = ["photo00.png", "empty.png", "gone.png", "fake.jpg", "cut.png", "photo01.png"]
    table = decoded(photos, names)
    assert table.schema == rows.DECODED
    images = table.to_pylist()
    assert [row["image_uri"] for row in images] == [str(photos / name) for name in names]
    kinds = [row["error_type"] for row in images]
    assert kinds == [None, "EmptyFile", "NotFound", "NotAnImage", "DamagedImage", None]
    assert {row["shard_size"] for row in images} == {6}
    assert [row["message"] is None for row in images] == [kind is None for kind in kinds]
    data = (photos / "photo00.png").read_bytes()
    assert images[0]["image_sha256"] == hashlib.sha256(data).hexdigest()
    assert (images[5]["width"], images[5]["height"]) == (42, 31)


def test_the_labeller_labels_each_pixel_at_the_image_s_own_size(photos):
    row = labelled(photos, ["photo00.png"])[0]  # left half red, right half green
    labels_HW = pixels(row["mask"])
    assert labels_HW.shape == (30, 40)
    assert labels_HW.dtype == np.uint8
    assert (labels_HW[:, :18] == 0).all()
    assert (labels_HW[:, 22:] == 1).all()
    assert pixels(row["confidence"]).shape == (16, 16)
    assert pixels(row["confidence"]).min() > 128
    assert row["candidates"] == [0, 1, 2]
    assert row["ignored_fraction"] == 0
    assert 0.5 < row["mean_confidence"] <= 1
    assert row["mask"]["path"] == "photo00.png"


def test_segments_describe_the_mask(photos):
    for row in labelled(photos, ["photo00.png", "photo01.png", "photo03.png"]):
        labels_HW = pixels(row["mask"])
        assert [s["category"] for s in row["segments"]] == [
            CLASSES[i] for i in np.unique(labels_HW)
        ]
        for segment in row["segments"]:
            mask_HW = labels_HW == segment["category_id"]
            ys, xs = mask_HW.nonzero()
            assert (coco.decode(segment["rle"]) == mask_HW).all()
            assert segment["pixels"] == mask_HW.sum()
            assert segment["area_fraction"] == pytest.approx(mask_HW.mean())
            left, top = xs.min(), ys.min()
            box = [left, top, xs.max() - left + 1, ys.max() - top + 1]
            assert segment["bbox"] == box
            assert 0 < segment["mean_confidence"] <= 1
        assert sum(segment["pixels"] for segment in row["segments"]) == labels_HW.size


def test_no_batch_holds_images_of_two_shards(photos, tmp_path):
    names = write_photos(photos, 9)
    uris = [str(photos / name) for name in names]
    shards = [{"shard": 3, "image_uris": uris[:5]}, {"shard": 4, "image_uris": uris[5:]}]
    decode = Decode(short_side=64, long_side=256)
    rows_in = pa.concat_tables(decode(pa.Table.from_pylist(shards, schema=rows.SHARD)))
    sizes = []

    class Noting(ColourModel):
        def score(self, images_B3HW, text_NPD, rejection=None):
            sizes.append(len(images_B3HW))
            return super().score(images_B3HW, text_NPD, rejection)

    labelled_rows = make_labeller(model=Noting, batch_size=3)(rows_in).to_pylist()
    assert sizes == [3, 2, 3, 1]
    assert [row["image_uri"] for row in labelled_rows] == uris
    assert make_labeller(model=Noting)(rows_in).to_pylist() == labelled_rows
    assert sizes[4:] == [5, 4]


def test_a_batch_gives_what_each_image_gets_alone(photos):
    names = sorted(path.name for path in photos.iterdir())
    assert labelled(photos, names) == [
        labelled(photos, [name])[0] | {"shard_size": 4} for name in names
    ]


def test_uncertain_pixels_get_the_ignore_value(photos):
    sure = labelled(photos, ["photo00.png"])[0]
    row = labelled(photos, ["photo00.png"], min_confidence=0.9)[0]
    model = ColourModel()
    batch = decoded(photos, ["photo00.png"])
    image = make_labeller().to_input(batch.to_pylist()[0], batch["pixels"][0])
    scores = model.score(image[None], model.embed_classes(CLASSES))[0]
    _, confidence_HW = label_map(scores.logits_KHW, scores.candidates_K, height=30, width=40)
    ignored_HW = confidence_HW.numpy() < 0.9
    assert 0 < ignored_HW.sum() < ignored_HW.size
    labels_HW = pixels(row["mask"])
    np.testing.assert_array_equal(labels_HW == 255, ignored_HW)
    np.testing.assert_array_equal(labels_HW[~ignored_HW], pixels(sure["mask"])[~ignored_HW])
    assert row["ignored_fraction"] == pytest.approx(ignored_HW.mean())
    assert row["mean_confidence"] == sure["mean_confidence"]


def test_rejected_classes_are_no_candidates(photos):
    row = labelled(photos, ["photo01.png"], rejection="fixed:1")[0]
    assert len(row["candidates"]) == 1
    assert np.unique(pixels(row["mask"])).tolist() == row["candidates"]


def test_without_any_candidate_everything_is_ignored(photos):
    class Nothing(ColourModel):
        def score(self, images_B3HW, text_NPD, rejection=None):
            none = torch.zeros(0, dtype=torch.long)
            return [sed.ClassScores(torch.zeros(0, 16, 16), none) for _ in images_B3HW]

    row = labelled(photos, ["photo00.png"], model=Nothing)[0]
    assert (pixels(row["mask"]) == 255).all()
    assert (row["segments"], row["candidates"], row["ignored_fraction"]) == ([], [], 1)
    assert pixels(row["confidence"]).max() == 0


def test_errors_pass_through_and_their_images_are_not_scored(photos, tmp_path):
    (photos / "empty.png").write_bytes(b"")
    log = tmp_path / "log"
    names = ["empty.png", "photo00.png", "gone.png"]
    images = labelled(photos, names, model=lambda device: ColourModel(device, log=log))
    assert [row["error_type"] for row in images] == ["EmptyFile", None, "NotFound"]
    assert [row["mask"] is None for row in images] == [True, False, True]
    assert log.read_text().count("image") == 1


def test_where_memory_does_not_suffice_images_go_alone_and_only_the_largest_fails(photos):
    class Small(ColourModel):
        def score(self, images_B3HW, text_NPD, rejection=None):
            if len(images_B3HW) > 1 or images_B3HW[0, 2].max() == 1:  # any blue
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().score(images_B3HW, text_NPD, rejection)

    images = labelled(photos, ["photo00.png", "photo01.png", "photo03.png"], model=Small)
    assert [row["error_type"] for row in images] == [None, "OutOfMemory", None]
    assert images[0]["mask"] == labelled(photos, ["photo00.png"])[0]["mask"]


def test_an_image_that_cannot_be_prepared_costs_one_row(photos):
    class Small(ColourModel):
        def prepare(self, pixels_HW3):
            if pixels_HW3[..., 2].max() == 255:  # any blue
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().prepare(pixels_HW3)

    images = labelled(photos, ["photo00.png", "photo01.png", "photo03.png"], model=Small)
    assert [row["error_type"] for row in images] == [None, "OutOfMemory", None]
    assert [row["message"] for row in images] == [None, "CUDA out of memory", None]
    for row, name in ((images[0], "photo00.png"), (images[2], "photo03.png")):
        assert row["mask"] == labelled(photos, [name])[0]["mask"]


class Crowded:
    """A labeller whose memory is full while others compute beside it, or always on its device."""

    def __init__(self, *, device_is_full=False):
        self.device_is_full = device_is_full
        self.alone = []  # whether it was in the thread of the model, at each try
        self.labeller = make_labeller(model=lambda device: CrowdedModel(self))

    def check(self):
        self.alone.append(current_thread().name.startswith("model"))
        if self.device_is_full or not self.alone[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")


class CrowdedModel(ColourModel):
    def __init__(self, place):
        super().__init__()
        self.place = place

    def score(self, images_B3HW, text_NPD, rejection=None):
        found = super().score(images_B3HW, text_NPD, rejection)
        return [CrowdedScores(one, self.place) for one in found]


class CrowdedScores(sed.ClassScores):
    """Scores on a device: what is copied from it is a plain `ClassScores`."""

    def __init__(self, scores, place):
        super().__init__(scores.logits_KHW, scores.candidates_K)
        object.__setattr__(self, "place", place)

    def label_map(self, height, width):
        self.place.check()
        return super().label_map(height, width)


@pytest.mark.parametrize("device_is_full", [False, True])
def test_an_image_that_fits_alone_or_on_the_cpu_is_no_error(photos, device_is_full):
    crowded = Crowded(device_is_full=device_is_full)
    (row,) = crowded.labeller(decoded(photos, ["photo00.png"])).to_pylist()
    assert crowded.alone == [False, True]
    assert row == labelled(photos, ["photo00.png"])[0]


def test_one_thread_has_the_model_and_all_its_cores(photos):
    class Watched(ColourModel):
        def __init__(self, device):
            super().__init__(device)
            seen.add((get_ident(), torch.get_num_threads()))

        def score(self, images_B3HW, text_NPD, rejection=None):
            seen.add((get_ident(), torch.get_num_threads()))
            return super().score(images_B3HW, text_NPD, rejection)

    def call(_):
        labeller(batch)
        return torch.get_num_threads()

    seen = set()
    batch = decoded(photos, ["photo00.png"])
    labeller = make_labeller(model=Watched, threads=2)
    with ThreadPoolExecutor(3) as pool:
        callers = list(pool.map(call, range(6)))
    assert len(seen) == 1
    assert {threads for _, threads in seen} == {min(2, os.cpu_count())}
    assert set(callers) == {1}


def test_a_threads_number_of_cores_is_not_that_of_another():
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        first.submit(use_threads, 2).result()
        second.submit(use_threads, 1).result()
        assert first.submit(torch.get_num_threads).result() == min(2, os.cpu_count())
        assert second.submit(torch.get_num_threads).result() == 1


def test_a_photo_that_no_memory_can_hold_costs_one_row(photos):
    class Nothing(ColourModel):
        def score(self, images_B3HW, text_NPD, rejection=None):
            none = torch.zeros(0, dtype=torch.long)
            return [sed.ClassScores(torch.zeros(0, 16, 16), none) for _ in images_B3HW]

    huge, small = decoded(photos, ["photo00.png", "photo01.png"]).to_pylist()
    huge |= {"width": 10**7, "height": 10**7}  # 400 TB
    batch = pa.Table.from_pylist([huge, small], schema=rows.DECODED)
    images = make_labeller(model=Nothing)(batch).to_pylist()
    assert [row["error_type"] for row in images] == ["OutOfMemory", None]


def test_other_failures_of_the_model_are_not_hidden(photos):
    class Broken(ColourModel):
        def score(self, images_B3HW, text_NPD, rejection=None):
            raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        labelled(photos, ["photo00.png"], model=Broken)


@pytest.mark.parametrize(("num_classes", "ignore", "mode"), [(255, 255, "L"), (256, 65535, "I;16")])
def test_masks_of_many_classes_have_16_bit(num_classes, ignore, mode):
    labels_HW = np.array([[0, num_classes - 1], [ignore, 1]])
    with Image.open(io.BytesIO(masks.index_png(labels_HW, num_classes))) as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.array(image), labels_HW)
    assert masks.ignore_value(num_classes) == ignore


STAMP = {"vocabulary_id": "v", "model_id": "m", "rejection": "none", "run_id": "r"}


def test_a_commit_writes_the_contract_s_columns(photos, tmp_path):
    (photos / "empty.png").write_bytes(b"")
    plain_image("red").save(photos / "photo00.png")
    table = make_labeller()(decoded(photos, ["photo00.png", "empty.png"]))
    output = locate(str(tmp_path / "out"))
    done = Commit(output, CLASSES, STAMP)(table)
    assert done.to_pylist() == [{"shard": 0, "labelled": 1, "errors": 1}]
    labels = pq.read_table(tmp_path / "out/labels/part-00000.parquet")
    assert labels.column_names == [
        *("image_uri", "image_sha256", "width", "height", "mask", "confidence", "segments"),
        *("ignored_fraction", "mean_confidence", "candidates"),
        *("vocabulary_id", "model_id", "rejection", "run_id"),
        *("mean_margin", "mean_entropy", "rivals"),  # beyond the contract's, and so after them
    ]
    won, lost = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4 / 3))  # red's scores in every pixel
    shares = np.array([won, lost, lost]) / (won + 2 * lost)
    assert labels["mean_margin"].to_pylist() == pytest.approx([won - lost], abs=1e-4)
    entropy = -(shares * np.log(shares)).sum()
    assert labels["mean_entropy"].to_pylist() == pytest.approx([entropy], abs=1e-4)
    assert json.loads(labels.schema.metadata[b"classes"]) == CLASSES
    assert rows.read_classes(labels.schema) == CLASSES
    features = json.loads(labels.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"mask": {"_type": "Image"}, "confidence": {"_type": "Image"}}
    errors = pq.read_table(tmp_path / "out/errors/part-00000.parquet").to_pylist()
    assert errors[0] == {
        "image_uri": str(photos / "empty.png"),
        "error_type": "EmptyFile",
        "message": "the file is empty (0 bytes)",
        "run_id": "r",
    }


def test_a_torn_shard_is_never_committed(photos, tmp_path):
    table = make_labeller()(decoded(photos, ["photo00.png", "photo01.png"]))
    with pytest.raises(AssertionError, match="whole shards"):
        Commit(locate(str(tmp_path / "out")), CLASSES, STAMP)(table.slice(0, 1))
    assert not (tmp_path / "out").exists()


class Job:
    """A label job with the colour model, run again and again on one output."""

    def __init__(self, images, output, checkpoint, tmp_path):
        self.log = tmp_path / "scored"
        self.options = {"images": str(images), "output": str(output), "model": str(checkpoint)}
        self.uri = f"sqlite:///{tmp_path}/mlflow.db"

    def plan(self, **options):
        return make_plan(LabelConfig(classes=CLASSES, batch_size=3, **self.options, **options))

    def run(self, connect=lambda: None, **options):
        self.log.unlink(missing_ok=True)
        plan = self.plan(**options)
        self.planned = plan.num_images
        return label(
            plan,
            connect=connect,
            tracking_uri=self.uri,
            experiment="test",
            load_model=partial(ColourModel, log=self.log),
        )

    @property
    def scored(self):
        return self.log.read_text().count("image") if self.log.exists() else 0


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refuse():
    raise AssertionError("a cluster was asked for")


def test_a_start_knows_its_output_its_images_and_what_was_done_before(
    photos, tmp_path, random_checkpoint, monkeypatch
):
    job = Job(photos, tmp_path / "out", random_checkpoint, tmp_path)
    plan = replace(job.plan(), todo=job.plan().todo[1:])  # as if one shard were done
    seen = []

    def label_on_cluster(todo, pool, *, decode, commit, observe, **_):
        progress = cluster.Progress(len(todo))
        progress.add(labelled=2, errors=0)
        observe(progress)
        seen.append((decode.around, commit.marker, commit.marker.exists()))
        return progress

    monkeypatch.setattr(cluster, "choose_pool", lambda *_, **__: cluster.Pool(1, 1, 0, 1))
    monkeypatch.setattr(cluster, "label_on_cluster", label_on_cluster)
    told = []
    tracked = SimpleNamespace(metrics=lambda metrics, step: told.append(step))
    spread(plan, {"run_id": "r", "seconds": 1.0}, lambda: None, ColourModel, tracked)
    ((around, marker, was_there),) = seen
    assert around.folders == [str(photos)]
    assert was_there
    assert not marker.exists()
    assert told == [len(plan.manifest) - plan.num_images + 2]
    assert plan.num_images < len(plan.manifest)


@pytest.mark.ray
def test_every_image_is_labelled_once_and_a_restart_does_only_what_is_missing(
    local_ray, photos, tmp_path, random_checkpoint, monkeypatch, caplog
):
    monkeypatch.setattr(cluster, "SECONDS_BETWEEN_LINES", 0.1)
    caplog.set_level("INFO", "pipelines.cluster")
    names = write_photos(photos, 19)
    (photos / "empty.png").write_bytes(b"")
    (photos / "notes.txt").write_text("no image")
    out = tmp_path / "out"
    job = Job(photos, out, random_checkpoint, tmp_path)

    run = job.run()
    assert run["counts"] == {"inputs": 20, "labelled": 19, "errors": 1, "skipped": 1}
    assert job.scored == 19
    labels = pq.read_table(out / "labels").to_pylist()
    assert sorted(row["image_uri"] for row in labels) == [str(photos / name) for name in names]
    for row in labels:
        assert pixels(row["mask"]).shape == (row["height"], row["width"])
        assert row["run_id"] == run["run_id"]
        assert row["model_id"] == run["identity"]["model_id"]
    assert [row["image_uri"] for row in pq.read_table(out / "errors").to_pylist()] == [
        str(photos / "empty.png")
    ]
    assert (out / "report/index.html").stat().st_size > 1000
    check_progress(mlflow.MlflowClient(job.uri), run["mlflow"]["run_id"], caplog.text)

    before = contents(out)
    assert job.run(connect=refuse) == run
    assert contents(out) == before

    (out / "labels/part-00002.parquet").unlink()
    (out / "errors/part-00005.parquet").unlink()
    resumed = job.run()
    assert job.scored == 3
    after = contents(out)
    assert after["labels/part-00002.parquet"] == before["labels/part-00002.parquet"]
    assert resumed["run_id"] == run["run_id"]
    assert resumed["counts"]["labelled"] == 19


def check_progress(client, run_id, log):
    """It was told to MLflow and to the console while the job ran, and at its end."""
    known = {
        name: [metric.value for metric in client.get_metric_history(run_id, f"progress/{name}")]
        for name in ("done", "errors", "images_per_second", "seconds_left")
    }
    assert len(known["done"]) > 1
    assert known["done"] == sorted(known["done"])
    assert (known["done"][-1], known["errors"][-1], known["seconds_left"][-1]) == (20, 1, 0)
    assert known["images_per_second"][-1] > 0
    assert [file.path for file in client.list_artifacts(run_id, "report")] == ["report/index.html"]
    assert re.search(r"0 of 20 images, 0\.00 images/s, 0 errors\n", log)
    assert re.search(r"20 of 20 images, [\d.]+ images/s, 1 errors\n", log)


@pytest.mark.ray
def test_the_stages_have_names_in_the_dashboard(local_ray, tmp_path):
    dataset = cluster.label_shards(
        pa.Table.from_pylist([{"shard": 0, "image_uris": ["a"]}], schema=rows.SHARD),
        cluster.Pool(1, 1, 0, 1),
        decode=Decode(64, 256),
        make_labeller={},
        commit=Commit(locate(str(tmp_path)), CLASSES, STAMP),
        batch_size=1,
    )
    names = re.findall(r"MapBatches\((\w+)\)", str(dataset))
    assert names == ["Commit", "Labeller", "Decode"]
    assert dataset.name == "label"


class Outage(dict):
    """What a proxy answers: nothing any more, from the first request for some object on."""

    def __init__(self, key):
        super().__init__()
        self.key, self.has_begun = key, False

    def get(self, request, default=None):
        self.has_begun = self.has_begun or request[1] == self.key
        return (test_storage_faults.HANG_UP, "", 10**6) if self.has_begun else default


def bucket_rows(uri):
    """The rows of each file that an output has in a bucket, without the run that wrote them."""
    place = locate(uri)
    return {
        (folder, info.base_name): pq.read_table(info.path, filesystem=place.fs)
        .drop_columns("run_id")
        .to_pylist()
        for folder in (shards.LABELS, shards.ERRORS)
        for info in shards.parts(place, folder)
    }


@pytest.mark.ray
def test_a_store_that_goes_away_ends_the_job_and_the_next_start_completes_it(
    local_ray, proxy, s3_bucket, photos, tmp_path, random_checkpoint, monkeypatch
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket_filesystem.cache_clear()
    for name in write_photos(photos, 40):
        locate(f"{s3_bucket}/in/{name}").write((photos / name).read_bytes())
    job = Job(f"{s3_bucket}/in", f"{s3_bucket}/out", random_checkpoint, tmp_path)
    outage = proxy.faults = Outage("part-00003.parquet")  # when the fourth shard is to be written
    with pytest.raises(local_ray.exceptions.RayTaskError, match="AWS Error NETWORK_CONNECTION"):
        job.run()
    assert outage.has_begun

    proxy.faults = {}
    left = bucket_rows(f"{s3_bucket}/out")
    done = [row for (folder, _), rows in left.items() if folder == "labels" for row in rows]
    assert len(done) < 40
    assert [row for (folder, _), rows in left.items() if folder == "errors" for row in rows] == []
    run = job.run()
    assert run["counts"] == {"inputs": 40, "labelled": 40, "errors": 0, "skipped": 0}
    # What the failed job still had under way may have been written since.
    assert job.scored == job.planned <= 40 - len(done)
    whole = Job(f"{s3_bucket}/in", f"{s3_bucket}/whole", random_checkpoint, tmp_path)
    whole.run()
    assert bucket_rows(f"{s3_bucket}/out") == bucket_rows(f"{s3_bucket}/whole")


def test_nothing_is_labelled_where_only_the_end_was_missing(photos, tmp_path, random_checkpoint):
    """A job that was killed after its last shard has a report to write, and no image to label."""
    out = tmp_path / "out"
    (photos / "photo02.png").unlink()
    (photos / "photo01.png").unlink()  # and with these two all that is blue
    job = Job(photos, out, random_checkpoint, tmp_path)
    plan = job.plan()
    make = make_labeller()
    decode = Decode(short_side=64, long_side=256)
    commit = Commit(plan.output, CLASSES, STAMP)
    for shard in plan.todo.to_batches(max_chunksize=1):
        commit(make(pa.concat_tables(decode(pa.Table.from_batches([shard])))))
    from pipelines import outputs

    outputs.write_run(plan.output, killed(plan))
    shards.write_manifest(plan.output, plan.manifest)
    run = job.run(connect=refuse)
    assert run["status"] == "done"
    assert run["counts"]["labelled"] == 2
    assert json.loads((out / "run.json").read_text())["collapsed_classes"] == ["blue"]
    assert (out / "report/index.html").exists()


def killed(plan):
    return {
        "run_id": "r",
        "output": plan.output.uri,
        "identity": plan.identity.__dict__,
        "fingerprint": plan.identity.fingerprint,
        "classes": CLASSES,
        "status": "running",
        "seconds": 1.0,
        "images_per_second": 0.0,
        "mlflow": {"run_id": None},
    }


def test_a_plan_knows_what_is_there(photos, tmp_path, random_checkpoint):
    job = Job(photos, tmp_path / "out", random_checkpoint, tmp_path)
    plan = job.plan()
    assert plan.num_images == 4
    assert not plan.is_done
    assert (
        plan.identity.model_id
        == "sha256:" + hashlib.sha256(random_checkpoint.read_bytes()).hexdigest()
    )
    assert job.plan(limit=2).num_images == 2
    with pytest.raises(ValueError, match="--min-confidence is from 0 to 1"):
        job.plan(min_confidence=1.5)
    with pytest.raises(ValueError, match="--workers is at least 1"):
        job.plan(workers=0)
    with pytest.raises(ValueError, match="--gpus-per-worker"):
        job.plan(gpus_per_worker=1.5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (128, 128), (257, 130)])
def test_pixels_are_counted_down_the_columns(shape):
    map_HW = np.random.default_rng(0).integers(0, 9, shape, dtype=np.int32)
    found = masks.down_the_columns(map_HW)
    assert found.dtype == np.int32
    assert np.array_equal(found, map_HW.T.ravel())
