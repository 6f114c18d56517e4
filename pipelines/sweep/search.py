"""Which policy is tried next: first the published ones, then a list or Optuna's choice."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import optuna
from ray.tune.search import Searcher

from pipelines.sweep.space import Space
from sed import Rejection
from sed.rejection import Fixed, Threshold, TopK

T = TypeVar("T")

Search = Literal["optuna", "random", "grid"]

DRAWN = 3
"""Policies that are drawn for each that is tried: some come out the same."""

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
        self,
        listed: Sequence[str],
        *,
        references: int,
        num_names: int,
        space: Space | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.num_names = num_names
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
                text = canonical(self.space.suggest(asked), self.num_names)
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
        grid = [canonical(text, num_names) for text in space.grid()]
        grid = [text for text in dict.fromkeys(grid) if text not in known]
        if len(first) + len(grid) > trials:
            raise ValueError(
                f"the grid has {len(grid)} policies, and {len(first)} of the paper come before "
                f"them: name fewer values, or give --trials {len(first) + len(grid)}"
            )
        return first + grid
    drawn = [canonical(text, num_names) for text in space.random(DRAWN * trials, seed)]
    new = [text for text in dict.fromkeys(drawn) if text not in known]
    return (first + new)[:trials]


def canonical(text: str, num_names: int) -> str:
    """Return the shortest way to write a policy: of those that do the same, one is tried.

    What rejects nothing of so many names is left out, and equal numbers are written once.
    """
    left, kept = num_names, []
    for policy in Rejection.parse(text).policies:
        if isinstance(policy, Fixed):
            if policy.classes < left:
                kept.append(policy)
                left = policy.classes
        elif isinstance(policy, TopK):
            classes = tuple(min(count, left) for count in policy.classes)
            if min(classes) < left:
                kept.append(TopK(once(classes)))
        else:
            assert isinstance(policy, Threshold), f"there is no other kind: {policy}"
            if any(policy.probabilities):
                kept.append(Threshold(once(policy.probabilities)))
    return str(Rejection(tuple(kept)))


def once(values: tuple[T, ...]) -> tuple[T, ...]:
    """Return the numbers of the levels, or one where they are equal."""
    return values[:1] if len(set(values)) == 1 else values


warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
