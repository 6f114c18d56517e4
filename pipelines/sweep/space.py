"""Which rejection policies a sweep may try: text forms with holes, and what fills the holes.

A file (YAML or JSON) looks like this:

    policies: ["topk:{k}", "fixed:{f}+topk:{k}", "prob:{t0},{t1},{t2}"]
    parameters:
      k: [1, 2, 4, 8]                       # choices
      f: {from: 8, to: 128, log: true}      # a range of whole numbers
      t0: {from: 0.01, to: 0.5, log: true}  # a range
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import yaml

from pipelines.storage import locate
from sed import Rejection

if TYPE_CHECKING:
    import optuna

HOLE = re.compile(r"\{([^{}]*)\}")

POLICY = "{}"
"""Optuna's name for the choice of the policy; that of a hole has no braces."""

GRID_POINTS = 4
"""Values that a grid takes from a range."""

DRAWS = 1000
"""Tries to draw a policy that was not drawn before."""

Number = int | float


@dataclass(frozen=True)
class Range:
    """Numbers between two, both included."""

    low: Number
    high: Number
    log: bool = False
    """Small ones are as likely as large ones."""

    @property
    def whole(self) -> bool:
        """Say whether only whole numbers are meant: both ends are."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def at(self, share: float) -> Number:
        """Return the number at a share of the way, rounded to what is written down."""
        if self.log:
            value = math.exp((1 - share) * math.log(self.low) + share * math.log(self.high))
        else:
            value = (1 - share) * self.low + share * self.high
        return round(value) if self.whole else rounded(value)


Parameter = Range | tuple[Number, ...]


@dataclass(frozen=True)
class Space:
    """Policies with holes, and what may fill them."""

    policies: tuple[str, ...]
    parameters: Mapping[str, Parameter]

    def __post_init__(self) -> None:
        if not self.policies:
            raise ValueError("it is empty: it has no policies")
        used = {name for policy in self.policies for name in HOLE.findall(policy)}
        if missing := sorted(used - set(self.parameters)):
            raise ValueError(f"nothing says what {{{missing[0]}}} may be")
        if idle := sorted(set(self.parameters) - used):
            raise ValueError(f"no policy has a hole for the parameter {idle[0]!r}")
        for policy in self.policies:
            filled = {name: pick(self.parameters[name], 0) for name in holes(policy)}
            Rejection.parse(fill(policy, filled))
            for name in filled:
                for value in points(self.parameters[name]):
                    Rejection.parse(fill(policy, filled | {name: value}))

    def grid(self) -> list[str]:
        """Return every policy of the grid: all choices, and some values of each range."""
        found = [
            fill(policy, dict(zip(names, values, strict=True)))
            for policy in self.policies
            for names in [list(dict.fromkeys(HOLE.findall(policy)))]
            for values in itertools.product(*(points(self.parameters[name]) for name in names))
        ]
        return list(dict.fromkeys(found))

    def random(self, count: int, seed: int) -> list[str]:
        """Return different policies drawn at random; fewer where there are no more."""
        rng = np.random.default_rng(seed)
        found: dict[str, None] = {}
        for _ in range(DRAWS + count):
            if len(found) == count:
                break
            policy = self.policies[rng.integers(len(self.policies))]
            filled = {name: pick(self.parameters[name], rng.random()) for name in holes(policy)}
            found[fill(policy, filled)] = None
        return list(found)

    def suggest(self, trial: "optuna.Trial") -> str:
        """Let Optuna choose a policy and what fills its holes."""
        policy = trial.suggest_categorical(POLICY, self.policies)
        filled = {name: suggest(trial, name, self.parameters[name]) for name in holes(policy)}
        return fill(policy, filled)


def default_space(num_classes: int) -> Space:
    """Return the policies that are tried where the user names none."""
    most = max(2, num_classes // 2)
    return Space(
        policies=(
            "topk:{k0},{k1},{k2}",
            "fixed:{f}",
            "fixed:{f}+topk:{k}",
            "fixed:{f}+topk:{k0},{k1},{k2}",
            "fixed:{f}+prob:{t0},{t1},{t2}",
            "prob:{t0},{t1},{t2}",
            "topk:{k0},{k1},{k2}+prob:{t}",
        ),
        parameters={
            "k": Range(1, 8, log=True),
            "k0": Range(1, 8, log=True),
            "k1": Range(1, 4, log=True),
            "k2": Range(1, 4, log=True),
            "f": Range(min(4, most), most, log=True),
            "t": Range(0.01, 0.3, log=True),
            "t0": Range(0.05, 0.7),
            "t1": Range(0.05, 0.7),
            "t2": Range(0.05, 0.7),
        },
    )


def read_space(uri: str) -> Space:
    """Return the space of a YAML or JSON file.

    Raises:
        ValueError: The file is wrong; the message says where.
        OSError: There is no such file.
    """
    place = locate(uri)
    if not place.exists():
        raise ValueError(f"there is no space file {uri!r}")
    try:
        found = yaml.safe_load(place.read())  # JSON is YAML
        return parse_space(found)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the space file {uri!r} is wrong: {error}") from error


def parse_space(found: object) -> Space:
    """Return the space that a file's content describes.

    Raises:
        ValueError: It describes none.
    """
    if not found:
        raise ValueError("it is empty: it needs a list of policies")
    if not isinstance(found, dict) or set(found) - {"policies", "parameters"}:
        raise ValueError('it may hold "policies" and "parameters", nothing else')
    policies, parameters = found.get("policies") or [], found.get("parameters") or {}
    if not isinstance(policies, list) or not all(isinstance(one, str) for one in policies):
        raise ValueError('"policies" is a list of texts like "topk:{k}"')
    if not isinstance(parameters, dict):
        raise ValueError('"parameters" says for each name what it may be')
    known = {str(name): parse_parameter(str(name), value) for name, value in parameters.items()}
    return Space(tuple(policies), known)


def parse_parameter(name: str, value: object) -> Parameter:
    """Return the choices or the range of one parameter.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, list) and value and all(is_number(one) for one in value):
        return tuple(value)
    if isinstance(value, dict) and set(value) <= {"from", "to", "log"}:
        low, high = value.get("from"), value.get("to")
        if is_number(low) and is_number(high) and low <= high:
            log = bool(value.get("log", False))
            if log and low <= 0:
                raise ValueError(f"the parameter {name!r} starts at {low}: log needs more than 0")
            return Range(low, high, log)
    raise ValueError(
        f"the parameter {name!r} is a list of numbers or {{from: LOW, to: HIGH, log: true}}, "
        f"got {value!r}"
    )


def is_number(value: object) -> TypeGuard[Number]:
    """Say whether a value of a file is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def holes(policy: str) -> list[str]:
    """Return the names of the holes, each once."""
    return list(dict.fromkeys(HOLE.findall(policy)))


def fill(policy: str, values: Mapping[str, Number]) -> str:
    """Return a policy with its holes filled."""
    return HOLE.sub(lambda hole: str(values[hole[1]]), policy)


def pick(parameter: Parameter, share: float) -> Number:
    """Return the value at a share (0 to 1) of a range or of the choices."""
    if isinstance(parameter, Range):
        return parameter.at(share)
    return parameter[min(int(share * len(parameter)), len(parameter) - 1)]


def points(parameter: Parameter) -> Sequence[Number]:
    """Return the values that a grid takes."""
    if isinstance(parameter, Range):
        shares = np.linspace(0, 1, GRID_POINTS).tolist()
        return list(dict.fromkeys(parameter.at(share) for share in shares))
    return parameter


def suggest(trial: "optuna.Trial", name: str, parameter: Parameter) -> Number:
    """Let Optuna choose a value."""
    if not isinstance(parameter, Range):
        return trial.suggest_categorical(name, parameter)
    if parameter.whole:
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), log=parameter.log)
    return rounded(trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log))


def rounded(value: float) -> float:
    """Return three digits of a number: more make no difference here."""
    return float(f"{value:.3g}")
