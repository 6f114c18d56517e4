"""The workers of a training: how many, and what each takes of the cluster."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.train import ScalingConfig

DATA_CPUS = 2
"""Logical CPUs that are left to Ray Data at least."""

FEW_CPUS = 1 / 16
"""Ray Train divides what is reserved by what a worker takes: a tenth would lose the last worker."""

RESIZE_SECONDS = 30.0
"""Between two looks at whether there is room for more workers."""


@dataclass(frozen=True)
class Crew:
    """How many workers there are, and what each takes."""

    least: int = 1
    most: int = 1
    use_gpu: bool = False

    @classmethod
    def parse(cls, text: str, *, use_gpu: bool = False) -> "Crew":
        """Read "4", or "1:4": as many of these as there is room for.

        Raises:
            ValueError: It is neither.
        """
        least, _, most = text.partition(":")
        numbers = [least, most or least]
        if not all(number.isdecimal() for number in numbers) or (":" in text and not most):
            raise ValueError(f"--workers is a number, or a range like 1:4, got {text!r}")
        crew = cls(int(numbers[0]), int(numbers[1]), use_gpu)
        if not 1 <= crew.least <= crew.most:
            raise ValueError(
                f"--workers must be at least 1, and a range from less to more, got {text!r}"
            )
        return crew

    def scaling(self, cpus: int) -> "ScalingConfig":
        """Return what Ray Train is told, in a cluster of so many CPUs."""
        from ray.train import ScalingConfig  # takes seconds

        each = {"CPU": self.cpus_each(cpus)}
        if self.use_gpu:
            each["GPU"] = 1
        return ScalingConfig(
            num_workers=self.least if self.least == self.most else (self.least, self.most),
            use_gpu=self.use_gpu,
            resources_per_worker=each,
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        )

    def cpus_each(self, cpus: int) -> float:
        """Return the logical CPUs of a worker.

        Workers must never hold so many that too few are left to read with: the training would hang.
        Without GPUs a group that may change its size takes hardly any, as nodes may go.
        """
        left = cpus - DATA_CPUS
        if left >= self.most and (self.use_gpu or self.least == self.most):
            return 1
        return max(FEW_CPUS, left / self.most if self.least == self.most else 0)
