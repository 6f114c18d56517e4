"""Label jobs in a process of their own: a slow stand-in model that writes down what it does, or a
slow nano.
"""

import os
import time
from functools import partial
from pathlib import Path

import ray

import sed
from pipelines.label import label
from pipelines.plan import LabelConfig, make_plan
from tests.fakes import ColourModel, encoded, plain_image
from tests.machines import set_environment

CLASSES = ["red", "green", "blue"]


class TracingModel(ColourModel):
    """Takes its time; writes a line for each image: the worker, its node, the colour."""

    def __init__(self, device="cpu", *, trace, seconds):
        super().__init__(device)
        self.trace, self.seconds = trace, seconds

    def score(self, images_B3HW, text_NPD, rejection=None):
        node = ray.get_runtime_context().get_node_id()
        for image_3HW in images_B3HW:
            time.sleep(self.seconds)
            colour = (255 * image_3HW[:, 0, 0]).round().int().tolist()
            with Path(self.trace).open("a") as trace:
                trace.write(f"{os.getpid()} {node} {colour_name(colour)}\n")
        return super().score(images_B3HW, text_NPD, rejection)


class SlowNano:
    """The bundled model, which takes its time."""

    def __init__(self, device="cpu", *, seconds):
        self.model = sed.load_model("nano", device)
        self.config, self.embed_classes = self.model.config, self.model.embed_classes
        self.prepare = self.model.prepare
        self.seconds = seconds

    def score(self, images_B3HW, text_NPD, rejection=None):
        time.sleep(self.seconds * len(images_B3HW))
        return self.model.score(images_B3HW, text_NPD, rejection)


def colour_name(colour):
    """The name of a photo of this colour, without its ending."""
    red, green, blue = colour
    return f"{red:03d}-{green:03d}-{blue:03d}"


def write_plain_photos(folder, count):
    """Write photos of different colours, which their names say."""
    folder.mkdir(parents=True)
    for index in range(count):
        colour = (index % 16 * 16, index // 16 * 16, 128)
        (folder / f"{colour_name(colour)}.png").write_bytes(encoded(plain_image(colour)))


def run(images, output, checkpoint, *, address, trace, seconds=0.05, workers=1):
    """Label plain photos; to be called in a process of its own."""
    config = LabelConfig(
        images=str(images),
        output=str(output),
        classes=CLASSES,
        model=str(checkpoint),
        batch_size=4,
        workers=workers,
    )
    model = partial(TracingModel, trace=str(trace), seconds=seconds)
    run_label(config, model, address=address, folder=output.parent)


def run_nano(images, output, *, address, folder, environment, seconds):
    """Label photos of a bucket; to be called in a process of its own."""
    os.environ.update(environment)
    config = LabelConfig(
        images=images,
        output=output,
        classes=["person", "sky", "grass, lawn", "building", "animal"],
        batch_size=2,
        workers=1,
    )
    run_label(config, partial(SlowNano, seconds=seconds), address=address, folder=folder)


def run_label(config, load_model, *, address, folder):
    """Do what is left of a label job."""
    set_environment({"RAY_ADDRESS": address})
    label(
        make_plan(config),
        connect=lambda: ray.init(log_to_driver=False),
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        experiment="killed",
        load_model=load_model,
    )
