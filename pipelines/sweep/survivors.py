"""Which classes a rejection keeps, written down while the decoder asks it.

Shapes: N classes of one image that are still there, H W cells.
"""

import numpy as np
from torch import Tensor

from sed.rejection import NUM_LEVELS, Rejection


class Recorder:
    """A policy that does what a rejection does and remembers it."""

    def __init__(self, rejection: Rejection) -> None:
        self.rejection = rejection
        self.kept: list[list[Tensor]] = [[] for _ in range(NUM_LEVELS)]
        """At each level the answers, one for each image."""

    def acts_at(self, level: int) -> bool:
        """Where the rejection acts."""
        return self.rejection.acts_at(level)

    def keep(self, logits_NHW: Tensor, level: int) -> Tensor:
        """Return what the rejection keeps."""
        keep_N = self.rejection.keep(logits_NHW, level)
        self.kept[level].append(keep_N)
        return keep_N

    def survivors(self, num_images: int, num_classes: int) -> list[list[np.ndarray]]:
        """Return for each image and each level the classes that the decoder worked on."""
        found = []
        for image in range(num_images):
            left, levels = np.arange(num_classes), []
            for answers in self.kept:
                if answers:
                    assert len(answers) == num_images, "the decoder asks once for each image"
                    left = left[answers[image].cpu().numpy()]
                levels.append(left)
            found.append(levels)
        return found
