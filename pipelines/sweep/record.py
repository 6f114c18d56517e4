"""A sweep in MLflow: a run with the front, and below it a run for each trial."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines import tracking
from pipelines.labeller import LoadModel
from pipelines.report import PAGE
from pipelines.storage import Location
from pipelines.sweep.page import render
from pipelines.sweep.picture import draw
from pipelines.sweep.plan import REJECTION_FILE, SWEEP_FILE, Plan
from pipelines.sweep.results import FOUND, as_json, conclude, named, write_choice
from pipelines.sweep.sweep import sweep
from pipelines.sweep.trial import Report

PICTURE_FILE = "sweep.png"

RECORDED_FILE = "mlflow.json"
"""Which trial has which run: a continued sweep records none twice."""


def recorded_sweep(
    plan: Plan,
    load_model: LoadModel,
    *,
    tracking_uri: str,
    experiment: str,
    params: Mapping[str, object],
) -> dict[str, Any]:
    """Search, write the output and record all of it; return what was found.

    Raises:
        UnusableSetError: The validation set has no mask, or none with a class of the vocabulary.
    """
    done, found = plan.output.at(SWEEP_FILE), None
    if plan.state and done.exists():
        earlier = json.loads(done.read())
        if not earlier["failed_trials"]:
            if earlier["max_miou_drop"] == plan.config.max_miou_drop:
                return earlier
            found = {name: earlier[name] for name in FOUND}  # only the choice is another
            # Whoever is killed from here on chooses again.
            done.write(as_json(earlier | {"max_miou_drop": None}))
    tags = {"job": "sweep"}
    known = plan.state.get("mlflow_run_id")
    with tracking.run(tracking_uri, experiment, "sweep", tags, run_id=known) as run:
        run.params({**params, "model_id": plan.model_id})
        run.dataset(plan.data.name, plan.data.source, plan.data.digest, "validation")
        run.tags({"max_miou_drop": plan.config.max_miou_drop})  # another start may have another
        if found is None:
            found = sweep(plan, load_model, {"mlflow_run_id": run.id or known})
        result = conclude(plan, found, run.id)
        write_choice(result, plan.output)
        plan.output.at(*PAGE).write(render(result).encode())
        plan.output.at(PICTURE_FILE).write(draw(result))
        record(result, plan.output, run)
        record_trials(result, plan.output, run, tracking_uri, experiment)
        done.write(as_json(result))  # last: where it is, all the rest is
    return result


def record(result: Mapping[str, Any], output: Location, run: tracking.Run) -> None:
    """Keep the choice, the front and the files in the sweep's own run."""
    if result["chosen"] is not None:
        (chosen,) = named(result, [result["chosen"]])
        run.tags({"chosen": result["chosen"]})
        run.metrics({f"chosen/{name}": value for name, value in numbers(chosen).items()})
    else:  # what an earlier start chose, with another --max-miou-drop
        run.remove_tag("chosen")
        run.remove_artifact(REJECTION_FILE)
    run.metrics({"seconds": result["seconds"], "front_size": len(result["front"])})
    with TemporaryDirectory() as folder:
        for name in (REJECTION_FILE, PICTURE_FILE):
            if (place := output.at(name)).exists():
                (Path(folder) / name).write_bytes(place.read())
        (Path(folder) / SWEEP_FILE).write_bytes(as_json(result))
        for file in sorted(Path(folder).iterdir()):
            run.artifact(file)
        page = Path(folder) / PAGE[-1]
        page.write_bytes(output.at(*PAGE).read())
        run.artifact(page, PAGE[0])


def record_trials(
    result: Mapping[str, Any], output: Location, parent: tracking.Run, uri: str, experiment: str
) -> None:
    """Record each trial as a run of its own, under the sweep's run."""
    if parent.id is None:
        return  # no server: it has been said
    place = output.at(RECORDED_FILE)
    known = json.loads(place.read()) if place.exists() else {}
    runs = known.get(parent.id, {})
    for trial in result["trials"]:
        text = trial["rejection"]
        tags = {"job": "sweep-trial", "mlflow.parentRunId": parent.id}
        tags["stopped_early"] = str(trial["images"] < result["images"])
        tags["on_front"] = str(text in result["front"])
        with tracking.run(uri, experiment, text, tags, run_id=runs.get(text)) as run:
            if run.id is None:
                break  # the server has gone: it has been said
            if runs.get(text) != run.id:
                runs[text] = run.id
                place.write(json.dumps({parent.id: runs}, indent=1).encode())
            run.tags(tags)
            run.params({"rejection": text, "reference": trial["reference"]})
            run.metrics(numbers(trial))


def numbers(trial: Report) -> dict[str, float]:
    """Return the figures of a trial by names that MLflow accepts."""
    plain = {name: value for name, value in trial.items() if type(value) in (int, float)}
    levels = {
        f"{name}/level{level}": value
        for name in ("kept", "recall")
        for level, value in enumerate(trial[name])
    }
    return {**plain, **levels}
