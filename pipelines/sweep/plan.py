"""What a sweep was asked for, checked, and whose output it writes to."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.datasets import Labelled
from pipelines.outputs import another, check_free
from pipelines.plan import check_gpus
from pipelines.storage import Location, locate
from pipelines.sweep.question import Question
from pipelines.sweep.space import Space, default_space

if TYPE_CHECKING:
    # Ray and Optuna take seconds: they are imported after what the flags say is checked.
    from pipelines.cluster import Pool
    from pipelines.sweep.search import Search

STATE_FILE = "state.json"
"""Whose output this is; written before the first trial."""

SWEEP_FILE = "sweep.json"
"""All that was found; written at the end."""

REJECTION_FILE = "rejection.json"
"""The chosen policy, for `--rejection` of the other jobs."""

TRIALS_VERSION = 3
"""Changes with what a trial writes down: trials of another version cannot be compared with."""

MOST_CPU_TRIALS = 8
"""Trials at a time where nobody says how many: each holds a model and its work in memory."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """How to search."""

    output: str
    """URI of the folder to write."""

    model: str = "nano"
    """Weights as the user named them."""

    vocabulary: Sequence[str] | None = None
    """Names that the model chooses from; None: those of the dataset."""

    extra_names: Sequence[str] = ()
    """Names beside these, which no mask holds."""

    space: Space | None = None
    """Policies to try; None: a default."""

    search: "Search" = "optuna"
    """How policies are chosen."""

    trials: int = 24
    """Policies to try, those of the paper included."""

    concurrency: int | None = None
    """Trials at a time."""

    gpus_per_trial: float | None = None
    """GPUs of each, a fraction to share one."""

    max_miou_drop: float = 0.2
    """Points of mIoU that the chosen policy may lose."""

    batch_size: int = 8
    """Images that go through the decoder together."""

    seed: int = 0
    """Of the search."""

    def __post_init__(self) -> None:
        if self.search not in ("optuna", "random", "grid"):
            raise ValueError(f"--search is optuna, random or grid, got {self.search!r}")
        for flag in ("trials", "concurrency", "batch_size"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise ValueError(f"--{flag.replace('_', '-')} must be at least 1, got {value}")
        if not -100 <= self.max_miou_drop <= 100:
            raise ValueError(f"--max-miou-drop is in points of mIoU, got {self.max_miou_drop}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed is a number from 0 to 2**32 - 1, got {self.seed}")
        check_gpus(self.gpus_per_trial, "--gpus-per-trial")

    def pool(self) -> "Pool":
        """Fit the trials to the cluster this process is connected to."""
        import ray

        from pipelines.cluster import Pool, choose_pool

        cpus = int(ray.cluster_resources().get("CPU", 1))
        wanted = self.concurrency
        pool = choose_pool(wanted, self.gpus_per_trial, num_tasks=self.trials)
        if pool.num_gpus:
            return dataclasses.replace(pool, num_cpus=0)
        size = wanted or min(cpus, MOST_CPU_TRIALS)
        # A trial runs on one machine.
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        each = max(1, min(cpus // min(size, self.trials), largest))
        return Pool(min(size, self.trials), each, 0, each)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked sweep."""

    config: SweepConfig
    output: Location
    data: Labelled
    question: Question
    space: Space
    listed: list[str]
    """Policies that are known before the first trial."""

    model_id: str
    state: dict[str, Any]
    """What state.json says of an earlier start that this one continues; empty if there is none."""

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same to continue a sweep."""
        return identity(self.config, self.data, self.question, self.space, self.model_id)


def make_plan(config: SweepConfig, data: Labelled, question: Question, model_id: str) -> Plan:
    """Check the search and the output.

    Raises:
        ValueError: A grid is too large, or the output holds something else.
        OSError: The output cannot be reached.
    """
    from pipelines.sweep.search import listed

    names = len(question.names)
    space = config.space or default_space(names)
    known = listed(space, config.search, trials=config.trials, seed=config.seed, num_names=names)
    output = locate(config.output)
    wanted = identity(config, data, question, space, model_id)
    state = check_output(output, wanted)
    output.check_writable()
    return Plan(
        config=config,
        output=output,
        data=data,
        question=question,
        space=space,
        listed=known,
        model_id=model_id,
        state=state,
    )


def identity(
    config: SweepConfig, data: Labelled, question: Question, space: Space, model_id: str
) -> dict[str, Any]:
    """Return what all trials of a sweep have in common."""
    text = json.dumps(dataclasses.asdict(space), sort_keys=True)
    return {
        "model": model_id,
        "vocabulary": question.vocabulary_id,
        "data": data.digest,
        "version of the trials": TRIALS_VERSION,
        "space": "sha256:" + hashlib.sha256(text.encode()).hexdigest(),
        "search": config.search,
        "trials": config.trials,
        "batch size": config.batch_size,
        "seed": config.seed,
    }


def check_output(output: Location, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an earlier start of the same sweep; empty if there is none.

    Raises:
        ValueError: The folder holds something else, or another sweep.
    """
    state = read_state(output)
    other = [
        another("number of trials" if name == "trials" else name)
        for name, value in wanted.items()
        if state and state["identity"].get(name) != value
    ]
    if other:
        raise ValueError(
            f"the output {output.uri} holds a sweep with {' and '.join(other)}: "
            "use another --output"
        )
    return state


def read_state(output: Location) -> dict[str, Any]:
    """Return the state of an earlier start of a sweep; empty where there is nothing.

    Raises:
        ValueError: The folder holds something else.
    """
    place = output.at(STATE_FILE)
    if not place.exists():
        check_free(output, "sweep")
        return {}
    try:
        state = json.loads(place.read())
        dict(state["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{place.uri} is damaged: {error}") from error
    return state
