"""Which policy is tried next: first the published ones, then a list or Optuna's choice."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import optuna
from ray.tune.search import Searcher

from pipelines.sweep.space import Space
from sed import Rejection

Search = Literal["optuna", "random", "grid"]

REPEATS = 50
"""Times that Optuna may choose what was tried already before the search has ended."""

STARTUP = 8
"""Policies that Optuna draws at random before it learns from results."""

NONE = str(Rejection())

REFERENCES = (1, 2, 4, 8, 16)
"""K of the policy of the paper: what every sweep is compared with."""


class PolicySearch(Searcher):
    """Propose policies, each once: a list first, then what Optuna thinks of two objectives."""

    def __init__(
        self, listed: Sequence[str], *, references: int, space: Space | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.waiting = list(listed)
        self.references = references
        """The first so many are measured to the end whatever comes out."""
        self.tried: list[str] = []
        """What this search proposed; keeping every class is measured before it."""
        self.asked: dict[str, Any] = {}
        """Optuna's own record of each trial that is running."""
        self.space, self.study = space, None
        if space is not None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP)
            self.study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])

    def set_search_properties(
        self,
        metric: str | None,
        mode: str | None,
        config: dict[str, Any],
        **spec: Any,  # noqa: ANN401
    ) -> bool:
        """Accept what Tune says: everything is known already."""
        return True

    def suggest(self, trial_id: str) -> Any:  # noqa: ANN401  a configuration, or FINISHED
        """Return the next policy, or that there is no other."""
        if self.waiting:
            text = self.waiting.pop(0)
            self.tried.append(text)
            return {"rejection": text, "reference": len(self.tried) <= self.references}
        if self.study is not None and self.space is not None:
            for _ in range(REPEATS):
                asked = self.study.ask()
                text = str(Rejection.parse(self.space.suggest(asked)))
                if text not in (NONE, *self.tried):
                    self.tried.append(text)
                    self.asked[trial_id] = asked
                    return {"rejection": text, "reference": False}
                self.study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna what came out, also of a trial that was stopped early."""
        asked = self.asked.pop(trial_id, None)
        if asked is None or self.study is None:
            return
        if error or not result:
            self.study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(asked, [result["cost"], result["drop_points"]])

    def save(self, checkpoint_path: str) -> None:
        """Write down everything."""
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__dict__))

    def restore(self, checkpoint_path: str) -> None:
        """Go on from what was written down, by this program, in the sweep's own folder."""
        self.__dict__.update(pickle.loads(Path(checkpoint_path).read_bytes()))


def references(num_names: int) -> list[str]:
    """Return the policies of the paper that reject anything."""
    return [f"topk:{k}" for k in REFERENCES if k < num_names]


def listed(space: Space, search: Search, *, trials: int, seed: int, num_names: int) -> list[str]:
    """Return the policies that are known before the first trial.

    Raises:
        ValueError: A grid holds more of them than there may be trials.
    """
    first = references(num_names)[:trials]
    known = {NONE, *first}
    if search == "optuna":
        return first
    if search == "grid":
        grid = [text for text in map(canonical, space.grid()) if text not in known]
        if len(first) + len(grid) > trials:
            raise ValueError(
                f"the grid has {len(grid)} policies, and {len(first)} of the paper come before "
                f"them: name fewer values, or give --trials {len(first) + len(grid)}"
            )
        return first + grid
    drawn = [text for text in map(canonical, space.random(trials, seed)) if text not in known]
    return (first + list(dict.fromkeys(drawn)))[:trials]


def canonical(text: str) -> str:
    """Return the one way to write a policy."""
    return str(Rejection.parse(text))


warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
