"""Which image is shown when: an endless series of samples that seed and number alone decide.

Epochs follow each other without a gap, as in detectron2: a batch may hold the end of one and the
start of the next. An epoch takes the pieces of a dataset in random order, a few at a time (a
window), and shuffles the images of these; so no more than a window is ever in memory.
"""

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WINDOW = 1024
"""Images that are shuffled together, at least, where there are so many."""

FILLER = -1
"""Number of a row that makes batches equally long where they cannot be shared out evenly."""


@dataclass(frozen=True)
class Order:
    """The order in which the images of a dataset are shown."""

    lengths: tuple[int, ...]
    """Images in each piece of the dataset."""

    seed: int

    window: int = WINDOW
    """Images that are shuffled together, at least."""

    @property
    def num_images(self) -> int:
        """Images of an epoch."""
        return sum(self.lengths)

    def place(self, number: int) -> tuple[int, int, int]:
        """Return the epoch of a sample, the piece it is in and its row there."""
        epoch, index = divmod(number, self.num_images)
        piece, row = arrange(self, epoch)[0][index].tolist()
        return epoch, piece, row

    def cuts(self, first: int, end: int) -> list[int]:
        """Return the numbers in a range at which a window starts, those of tiny epochs thinned out.

        Between two of them lie whole windows: who reads these reads no image twice.
        """
        cuts = [first]
        for epoch in range(first // self.num_images, -(-end // self.num_images)):
            for start in arrange(self, epoch)[1]:
                number = epoch * self.num_images + start
                if first < number < end and number - cuts[-1] >= self.window // 2:
                    cuts.append(number)
        return [*cuts, end]


@lru_cache(maxsize=8)
def arrange(order: Order, epoch: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the (piece, row) of each image of an epoch, and where its windows start."""
    rng = np.random.default_rng([order.seed, epoch])
    windows: list[list[np.ndarray]] = [[]]
    count = 0
    for piece in rng.permutation(len(order.lengths)).tolist():
        if count >= order.window:
            windows.append([])
            count = 0
        rows = np.arange(order.lengths[piece])
        windows[-1].append(np.stack([np.full_like(rows, piece), rows], axis=1))
        count += len(rows)
    shuffled = [rng.permutation(np.concatenate(window)) for window in windows]
    starts = np.cumsum([0, *(len(window) for window in shuffled)])[:-1]
    return np.concatenate(shuffled), tuple(starts.tolist())


@dataclass(frozen=True)
class Sharing:
    """How the samples of a step are shared out: the same ones, whoever takes part."""

    batch_size: int
    """Images per step, over all workers."""

    world_size: int
    """Workers."""

    @property
    def share(self) -> int:
        """Rows that each worker gets per step; the last ones may be filler."""
        return -(-self.batch_size // self.world_size)

    def numbers(self, step: int) -> list[int]:
        """Return the samples of a step, the shares of the workers behind each other."""
        first = step * self.batch_size
        filler = self.share * self.world_size - self.batch_size
        return [*range(first, first + self.batch_size), *[FILLER] * filler]

    def stretches(self, order: Order, first_step: int, last_step: int) -> list[tuple[int, int]]:
        """Cut a range of steps into stretches that each read their own images, nearly."""
        cuts = order.cuts(first_step * self.batch_size, last_step * self.batch_size)
        steps = sorted({round(cut / self.batch_size) for cut in cuts} | {first_step, last_step})
        return list(itertools.pairwise(steps))
