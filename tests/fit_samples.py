"""Fit a small model to a few photos: python -m tests.fit_samples --samples DIR --output DIR.

It shows that training on photos learns: after it, the model labels the very photos that it was
shown. Everything goes through the public jobs; the same command continues. The samples are a folder
with images/, masks/ (values as COCO-Stuff ships them: its id less one, 255 for none) and
cocostuff_labels.txt ("id: name").
"""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import sed
from jobs.session import say
from sed.config import nano

IGNORED = 255
SIDE = 128
"""Side of the square image that the model sees: a quarter of nano's pixels."""

TRAINING = {
    "batch-size": 4,
    "learning-rate": 0.002,
    "encoder-rate": 0.3,  # it has never seen a photo
    "max-asked": 26,  # the photo of the most classes has 25
    "crop-size": SIDE,
    "precision": "fp32",
    "checkpoint-every": 100,
    "validate-every": 200,
    "log-every": 10,
}


def write_folder(samples, folder):
    """Write the samples as a dataset of a user's own, with the classes that occur.

    To evaluate on they are as they are; to train on they are squeezed into squares, as the model
    sees any photo that it labels. (Crops, which training would take otherwise, are not.)
    """
    lines = (samples / "cocostuff_labels.txt").read_text().splitlines()
    names = {int(number): name.strip() for number, name in (line.split(":", 1) for line in lines)}
    masks = {path.stem: np.asarray(Image.open(path)) for path in (samples / "masks").glob("*.png")}
    values = sorted({*np.concatenate([np.unique(mask) for mask in masks.values()])} - {IGNORED})
    index = np.full(256, IGNORED, np.uint8)
    index[values] = range(len(values))
    for stem, mask in masks.items():
        photo = Image.open(samples / "images" / f"{stem}.jpg").convert("RGB")
        labels = Image.fromarray(index[mask])
        square = (SIDE, SIDE)
        write_pair(folder, "val", stem, photo, labels)
        write_pair(
            folder,
            "train",
            stem,
            photo.resize(square),
            labels.resize(square, Image.Resampling.NEAREST),
        )
    (folder / "classes.json").write_text(json.dumps([names[value + 1] for value in values]))


def write_pair(folder, split, stem, photo, labels):
    for name, image in (("images", photo), ("masks", labels)):
        place = folder / name / split
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{stem}.png")


def write_model(path):
    """Write nano with its weights, for smaller images."""
    model = sed.SED(replace(nano(), image_size=SIDE, short_side=SIDE, long_side=4 * SIDE))
    model.load_state_dict(sed.load_model("nano").state_dict())
    sed.save_model(model, path)


def run(job, *flags):
    """Run a job; return what it says as JSON."""
    command = [sys.executable, "-m", f"jobs.{job}", *map(str, flags), "--json"]
    environment = os.environ | {"RAY_worker_niceness": "0"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def draw(store, run_id, right, path):
    """Draw the loss and the share of right pixels over the steps."""
    client = mlflow.MlflowClient(store)
    figure = Figure(figsize=(8, 3.6), dpi=130, layout="constrained")
    axes = figure.subplots()
    shown = (
        (axes, "loss/total", "#8a94a3", "loss of a batch"),
        (axes.twinx(), "folder/pACC", "#2f5bea", "pixels right on these photos, %"),
    )
    for side, name, color, label in shown:
        history = sorted(client.get_metric_history(run_id, name), key=lambda entry: entry.step)
        marker = "o" if name.startswith("folder") else ""
        side.plot([e.step for e in history], [e.value for e in history], color=color, marker=marker)
        side.set_ylabel(label, color=color)
        side.set_ylim(bottom=0)
        side.spines["top"].set_visible(False)
    axes.set_xlabel("steps of the optimizer")
    axes.set_title(f"{right['images']} photos with masks of COCO-Stuff: {right['pACC']:.1f} %")
    figure.savefig(path)


def main(samples, output, steps):
    """Train, evaluate, draw; say what came out."""
    folder, model, store = output / "folder", output / "start.safetensors", output / "mlflow.db"
    if not model.exists():
        write_folder(samples, folder)
        write_model(model)
    data = ("--dataset", f"folder={folder}")
    uri = ("--mlflow-uri", f"sqlite:///{store}")
    settings = [f"--{name}={value}" for name, value in TRAINING.items()]
    settings.append(f"--max-steps={steps}")
    to = ("--output", output / "run", "--validation", f"folder={folder}", "--no-colours")
    trained = run("train", *data, *uri, *to, "--model", model, *settings)
    (right,) = run("evaluate", *data, *uri, "--model", trained["model"])["datasets"]
    draw(f"sqlite:///{store}", trained["run_id"], right, output / "curve.png")
    say(json.dumps({"pACC": right["pACC"], "mIoU": right["mIoU"], "images": right["images"]}))


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="of this command's own")
    parser.add_argument("--steps", type=int, default=1200)
    asked = parser.parse_args()
    main(asked.samples, asked.output.resolve(), asked.steps)
