"""When a trial is not worth more images: successive halving on two objectives at once.

Trials report after 32, 64, 128, ... images, in whole batches (ASHA's rungs). Those that nobody
dominates go on, and of the others those with the fewest that are better in both respects.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from pipelines.storage import DRAFT, Location
from pipelines.sweep.trial import read_reports

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

REDUCTION = 3
"""Of the trials that reach a rung about one in so many goes on."""

Objectives = tuple[float, float]
"""Cost and points of mIoU lost: less is better."""


class ParetoHalving(FIFOScheduler):
    """Stop trials that others dominate on the same images."""

    def __init__(self, num_images: int, place: Location) -> None:
        super().__init__()
        self.num_images = num_images
        self.place = place
        """Where trials of an earlier start left their reports."""
        self.rungs: dict[int, dict[str, Objectives]] | None = None

    def on_trial_result(
        self, tune_controller: "TuneController", trial: "Trial", result: Mapping[str, Any]
    ) -> str:
        """Decide whether a trial gets more images."""
        rung = self.remember(result)
        if result["reference"] or result["images"] == self.num_images:
            return TrialScheduler.CONTINUE
        good = goes_on(result["rejection"], rung)
        return TrialScheduler.CONTINUE if good else TrialScheduler.STOP

    def remember(self, result: Mapping[str, Any]) -> Mapping[str, Objectives]:
        """Note a report; return all of the same rung."""
        if self.rungs is None:
            self.rungs = {}
            for info in self.place.files():
                if not DRAFT.fullmatch(info.base_name):  # what a kill amid the writing left
                    for report in read_reports(self.place.at(info.base_name)):
                        self.remember(report)
        rung = self.rungs.setdefault(result["images"], {})
        rung[result["rejection"]] = (result["cost"], result["drop_points"])
        return rung


def goes_on(name: str, rung: Mapping[str, Objectives]) -> bool:
    """Say whether a trial is among those of its rung that get more images."""
    better = {one: sum(dominates(b, a) for b in rung.values()) for one, a in rung.items()}
    if not better[name]:
        return True
    place = sum(count < better[name] for count in better.values())
    return place < math.floor(len(rung) / REDUCTION)


def dominates(a: Objectives, b: Objectives) -> bool:
    """Say whether a is at least as good as b in both respects, and better in one."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b
