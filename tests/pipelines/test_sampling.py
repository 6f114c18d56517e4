"""The order of training images: every one once an epoch, the same for the same seed."""

import dataclasses
import itertools
from collections import Counter

import pytest

from pipelines.sampling import FILLER, Order, Sharing

ORDER = Order((5, 3, 7, 4, 1), seed=0, window=6)


def epoch(order, number):
    first = number * order.num_images
    return [order.place(first + index)[1:] for index in range(order.num_images)]


def test_every_epoch_shows_every_image_once_in_another_order():
    everything = {
        (piece, row) for piece, length in enumerate(ORDER.lengths) for row in range(length)
    }
    epochs = [epoch(ORDER, number) for number in range(4)]
    assert all(set(one) == everything and len(one) == 20 for one in epochs)
    assert len({tuple(one) for one in epochs}) == 4


def test_the_seed_decides_the_order():
    assert epoch(ORDER, 2) == epoch(dataclasses.replace(ORDER), 2)
    assert epoch(ORDER, 2) != epoch(dataclasses.replace(ORDER, seed=1), 2)


def test_between_two_cuts_no_piece_is_read_that_others_need():
    cuts = ORDER.cuts(0, 40)
    assert cuts[0] == 0
    assert cuts[-1] == 40
    assert len(cuts) > 4
    for start in (0, 20):
        ranges = [(a, b) for a, b in itertools.pairwise(cuts) if start <= a < start + 20]
        readers = Counter(
            piece for a, b in ranges for piece in {ORDER.place(number)[1] for number in range(a, b)}
        )
        assert set(readers.values()) == {1}


def test_tiny_epochs_are_read_together():
    assert Order((2, 1), seed=0, window=1000).cuts(0, 3000) == [
        0,
        501,
        1002,
        1503,
        2004,
        2505,
        3000,
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_a_step_shows_the_same_images_to_any_number_of_workers(world_size):
    sharing = Sharing(8, world_size)
    for step in (0, 5):
        numbers = sharing.numbers(step)
        assert len(numbers) == sharing.share * world_size
        assert [n for n in numbers if n != FILLER] == list(range(8 * step, 8 * step + 8))


def test_stretches_follow_each_other_from_any_step():
    sharing = Sharing(3, 2)
    for first in (0, 4, 11):
        stretches = sharing.stretches(ORDER, first, 30)
        assert stretches[0][0] == first
        assert stretches[-1][1] == 30
        assert all(a[1] == b[0] for a, b in itertools.pairwise(stretches))
        assert all(a < b for a, b in stretches)
