"""A sweep in a process of its own, which can be killed: the bundled model, taking its time."""

import json
import time
from functools import partial
from pathlib import Path

import ray

import sed
from pipelines.datasets import load
from pipelines.sweep.plan import SweepConfig, make_plan
from pipelines.sweep.question import make_question
from pipelines.sweep.record import recorded_sweep
from tests.machines import set_environment

NAMES = ["grass", "sand", "blue sky", "water", "red ball", "green box"]


class SlowDecoder:
    """The bundled model; writes a line for each batch that it decodes."""

    def __init__(self, device="cpu", *, trace, seconds):
        self.model = sed.load_model("nano", device)
        self.config, self.embed_classes = self.model.config, self.model.embed_classes
        self.encode, self.condense = self.model.encode, self.model.condense
        self.trace, self.seconds = trace, seconds

    def decode(self, features, text_NPD, rejection=None):
        time.sleep(self.seconds)
        with Path(self.trace).open("a") as trace:
            trace.write("batch\n")
        return self.model.decode(features, text_NPD, rejection)


def run(folder, *, address, seconds):
    """Sweep six policies over a few scenes."""
    set_environment({"RAY_ADDRESS": address})
    ray.init(log_to_driver=False)
    config = SweepConfig(
        output=str(folder / "out"), vocabulary=NAMES, trials=6, concurrency=1, search="random"
    )
    data = load("scenes", limit=16)
    plan = make_plan(config, data, make_question(data, config.vocabulary), "sha256:nano")
    result = recorded_sweep(
        plan,
        partial(SlowDecoder, trace=str(folder / "trace"), seconds=seconds),
        tracking_uri=f"sqlite:///{folder}/mlflow.db",
        experiment="killed",
        params={},
    )
    (folder / "result.json").write_text(json.dumps(result))
