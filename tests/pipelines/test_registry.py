"""A registered model: MLflow's own loader runs it, and the jobs find its weights."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import sed
from pipelines import scenes, tracking
from pipelines.masks import to_png
from pipelines.storage import locate

CLASSES = ["grass", "red ball", "sky"]


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The tracking server and the version of a model that was registered there."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    checkpoint = sed.save_model(sed.load_model("nano"), folder / "model.safetensors")
    with tracking.run(uri, "test", "train") as run:
        version = tracking.register_model(run, checkpoint, "scenes-nano", CLASSES)
    return uri, version


def test_the_jobs_find_the_weights_of_a_version(registered):
    uri, version = registered
    assert version == "models:/scenes-nano/1"
    path = tracking.resolve_model(version, uri)
    assert sed.source_config(path) == sed.source_config("nano")


def test_mlflow_labels_images_with_any_class_list(registered):
    import mlflow

    uri, version = registered
    image_HW3 = scenes.draw(0, 1, split="seen", size=64).image_HW3
    frame = pd.DataFrame({"image": [to_png(image_HW3)]})
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        model = mlflow.pyfunc.load_model(version)
        for classes in (CLASSES, ["sand", "blue box"]):
            out = model.predict(frame, params={"classes": classes})
            with Image.open(io.BytesIO(out["labels"][0])) as mask:
                labels_HW = np.asarray(mask)
            wanted = sed.load_model("nano").segment(image_HW3, classes)
            assert (labels_HW == wanted.labels).all()
            assert out["confidence"][0] == pytest.approx(wanted.confidence.mean(), rel=1e-5)
        assert (
            model.predict(frame)["labels"][0]
            == model.predict(frame, params={"classes": CLASSES})["labels"][0]
        )
    finally:
        mlflow.set_tracking_uri(before)


def test_a_rejection_file_in_a_bucket_is_taken(s3_bucket):
    uri = f"{s3_bucket}/sweep/rejection.json"
    with pytest.raises(ValueError, match=r"sweep/rejection\.json' cannot be read"):
        tracking.resolve_rejection(uri)
    locate(uri).write(b'{"rejection": "topk:3,2,1"}')
    assert str(sed.Rejection.parse(tracking.resolve_rejection(uri))) == "topk:3,2,1"
    joined = tracking.resolve_rejection(f"fixed:64+{uri}")
    assert str(sed.Rejection.parse(joined)) == "fixed:64+topk:3,2,1"
    assert tracking.resolve_rejection("fixed:64+topk:8") == "fixed:64+topk:8"
