"""Category early rejection: which classes of an image go on to the next level.

After the embedded cost map and after the first two decoder blocks a small head scores every class;
a policy looks at these scores and says which classes are worth more work (section 3.4 of the SED
paper).

Shapes: N classes of one image that are still there, K of them that a policy kept, H W cells.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor  # takes seconds to import, and reading a policy needs none of it

NUM_LEVELS = 3

FORMS = (
    "none, topk:K, topk:K0,K1,K2, prob:T, fixed:K, FILE.json, and several of them joined by + "
    "(K is a whole number, T a probability from 0 to 1)"
)
"""What `Rejection.parse` reads, for its messages."""


class Policy(Protocol):
    """A rule that keeps some classes at some of the levels."""

    def acts_at(self, level: int) -> bool:
        """Say whether the rule can reject anything at this level (0, 1 or 2)."""
        ...

    def keep(self, logits_NHW: "Tensor", level: int) -> "Tensor":
        """Return keep_N, true for the classes that go on."""
        ...


@dataclass(frozen=True)
class TopK:
    """Keep the union over pixels of each pixel's best classes: the policy of the paper."""

    classes: tuple[int, ...]
    """Classes kept per pixel: one number for all levels, or one for each."""

    def __post_init__(self) -> None:
        check_levels("topk", self.classes)
        if min(self.classes) < 1:
            raise ValueError(f"topk keeps at least 1 class per pixel, got {min(self.classes)}")

    def acts_at(self, level: int) -> bool:
        """Every level."""
        return True

    def keep(self, logits_NHW: "Tensor", level: int) -> "Tensor":
        """Keep a class that is among the best of any pixel; equal scores stay together."""
        best = self.classes[level % len(self.classes)]
        if best >= len(logits_NHW):
            return logits_NHW.new_ones(len(logits_NHW)).bool()
        scores_NL = logits_NHW.flatten(1)
        last_L = scores_NL.topk(best, dim=0).values[-1]
        return (scores_NL >= last_L).any(dim=1)

    def __str__(self) -> str:
        return "topk:" + ",".join(map(str, self.classes))


@dataclass(frozen=True)
class Threshold:
    """Keep a class while its best pixel reaches a probability."""

    probabilities: tuple[float, ...]
    """Probability in [0, 1]: one for all levels, or one for each."""

    def __post_init__(self) -> None:
        check_levels("prob", self.probabilities)
        for probability in self.probabilities:
            if not 0 <= probability <= 1:
                raise ValueError(f"prob takes a probability from 0 to 1, got {probability}")

    def acts_at(self, level: int) -> bool:
        """Every level."""
        return True

    def keep(self, logits_NHW: "Tensor", level: int) -> "Tensor":
        """Keep classes over the threshold; the best class of an image always stays."""
        if not len(logits_NHW):
            return logits_NHW.new_ones(0).bool()
        best_N = logits_NHW.flatten(1).amax(dim=1).float()
        probability = self.probabilities[level % len(self.probabilities)]
        return (best_N.sigmoid() >= probability) | (best_N == best_N.max())

    def __str__(self) -> str:
        return "prob:" + ",".join(map(str, self.probabilities))


@dataclass(frozen=True)
class Fixed:
    """Keep the best classes of each image before the decoder starts: static shapes."""

    classes: int
    """Classes kept per image, by the score of their best cell."""

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"fixed keeps at least 1 class per image, got {self.classes}")

    def acts_at(self, level: int) -> bool:
        """Before the first decoder block only."""
        return level == 0

    def keep(self, logits_NHW: "Tensor", level: int) -> "Tensor":
        """Keep exactly this many classes; of equal ones those listed first."""
        best_N = logits_NHW.flatten(1).amax(dim=1)
        order_N = best_N.sort(descending=True, stable=True).indices
        keep_N = best_N.new_zeros(len(best_N)).bool()
        keep_N[order_N[: self.classes]] = True
        return keep_N

    def __str__(self) -> str:
        return f"fixed:{self.classes}"


@dataclass(frozen=True)
class Rejection:
    """Policies applied one after the other, each to the classes that the one before kept."""

    policies: tuple[Policy, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Rejection":
        """Read none, topk:K, topk:K0,K1,K2, prob:T or fixed:K, joined by +, or FILE.json.

        A file holds a JSON object whose "rejection" is one of the other forms.

        Raises:
            ValueError: The text is none of these; the message names it.
        """
        if text == "none":
            return cls()
        policies: list[Policy] = []
        for part in split_joined(text):
            if part.endswith(".json"):
                policies += cls.parse(read_file(Path(part))).policies
            else:
                policies.append(parse_policy(part, text))
        return cls(tuple(policies))

    def acts_at(self, level: int) -> bool:
        """Say whether anything can be rejected at this level (0, 1 or 2)."""
        return any(policy.acts_at(level) for policy in self.policies)

    def keep(self, logits_NHW: "Tensor", level: int) -> "Tensor":
        """Return keep_N, true for the classes that every policy keeps.

        A GPU is waited for only where a second policy acts at the level: for what it may see.
        """
        acting = [policy for policy in self.policies if policy.acts_at(level)]
        if not acting:
            return logits_NHW.new_ones(len(logits_NHW)).bool()
        first, *others = acting
        keep_N = first.keep(logits_NHW, level)
        for policy in others:
            kept_K = keep_N.nonzero().squeeze(1)
            keep_N = keep_N.scatter(0, kept_K, policy.keep(logits_NHW[kept_K], level))
        return keep_N

    def __str__(self) -> str:
        return "+".join(map(str, self.policies)) or "none"


def split_joined(text: str) -> list[str]:
    """Return the forms that are joined in a text; a file's path may hold a + itself."""
    return [text] if text.endswith(".json") and Path(text).is_file() else text.split("+")


def parse_policy(part: str, text: str) -> Policy:
    """Read one policy of the text form `text`."""
    name, _, value = part.strip().partition(":")
    try:
        if name == "topk":
            return TopK(tuple(whole_number(number) for number in value.split(",")))
        if name == "prob":
            return Threshold(tuple(probability(number) for number in value.split(",")))
        if name == "fixed":
            return Fixed(whole_number(value))
        problem = f"there is no policy {part.strip()!r}"
    except ValueError as error:
        problem = f"in {part.strip()!r}, {error}" if part != text else str(error)
    raise ValueError(f"rejection {text!r} is not understood: {problem}; known: {FORMS}")


def whole_number(text: str) -> int:
    """Read one K of a policy."""
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def probability(text: str) -> float:
    """Read one T of a policy."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def read_file(path: Path) -> str:
    """Return the text form inside a rejection file."""
    if not path.is_file():
        raise ValueError(f"rejection file {str(path)!r} does not exist")
    try:
        text = json.loads(path.read_text())["rejection"]
        if not isinstance(text, str) or text.endswith(".json"):
            raise TypeError(f"a policy is a text, got {text!r}")
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a rejection file: expected a JSON object with "
            f'"rejection": a policy like "topk:8" ({error})'
        ) from error
    return text


def check_levels(name: str, values: tuple[float, ...]) -> None:
    """Require one value for all levels or one for each."""
    if len(values) not in (1, NUM_LEVELS):
        raise ValueError(f"{name} takes 1 value or {NUM_LEVELS}, got {len(values)}")
