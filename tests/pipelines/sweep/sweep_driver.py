"""A sweep in a process of its own, which can be killed: the bundled model, taking its time."""

import json
import logging
import time
from functools import partial

import ray

import sed
from pipelines.datasets import load
from pipelines.sweep.plan import SweepConfig, make_plan
from pipelines.sweep.question import make_question
from pipelines.sweep.record import recorded_sweep
from tests.machines import set_environment

NUM_IMAGES = 40
"""More than one rung: trials report after 32 and after all."""

NUM_TRIALS = 8

NAMES = ["grass", "sand", "blue sky", "water", "red ball", "green box"]


class SlowDecoder:
    """The bundled model, slowed down."""

    def __init__(self, device="cpu", *, seconds):
        self.model = sed.load_model("nano", device)
        self.config, self.embed_classes = self.model.config, self.model.embed_classes
        self.encode, self.condense = self.model.encode, self.model.condense
        self.seconds = seconds

    def decode(self, features, text_NPD, rejection=None):
        time.sleep(self.seconds)
        return self.model.decode(features, text_NPD, rejection)


def run(folder, *, address, seconds):
    """Sweep a few policies over a few scenes, and write down what is said."""
    set_environment({"RAY_ADDRESS": address})
    ray.init(log_to_driver=False)
    logging.basicConfig(filename=folder / "log", level=logging.INFO, force=True)
    config = SweepConfig(
        output=str(folder / "out"),
        vocabulary=NAMES,
        trials=NUM_TRIALS,
        concurrency=1,
        search="optuna",
    )
    data = load("scenes", limit=NUM_IMAGES)
    plan = make_plan(config, data, make_question(data, config.vocabulary), "sha256:nano")
    result = recorded_sweep(
        plan,
        partial(SlowDecoder, seconds=seconds),
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        experiment="killed",
        params={},
    )
    (folder / "result.json").write_text(json.dumps(result))
