"""What training workers are given: any number of them the same, from any step."""

import dataclasses

import pytest
import torch

from pipelines.augment import NO_CLASS
from pipelines.feed import Feed, parts, read_steps
from pipelines.ingest import decode_labels
from pipelines.masks import index_png
from tests.drawn_pieces import DrawnPieces
from tests.training import Stream, make_config, make_ingest, pixels_by_number, steps_of

CONFIG = make_config()


def test_the_workers_of_a_step_are_given_what_one_alone_is():
    alone = pixels_by_number(steps_of(CONFIG))
    assert sorted(alone) == list(range(24))
    for world_size in (2, 3, 4):
        shared = {}
        for rank in range(world_size):
            batches = [
                [batch for batch in step if batch.weight]
                for step in steps_of(CONFIG, rank=rank, world_size=world_size)
            ]
            shared |= pixels_by_number(batches)
        assert shared == alone


def test_a_training_that_continues_is_given_what_it_would_have_been():
    alone = pixels_by_number(steps_of(CONFIG))
    later = pixels_by_number(steps_of(CONFIG, first_step=4))
    assert later == {number: alone[number] for number in range(16, 24)}


def test_an_image_looks_different_in_every_epoch_and_for_every_seed():
    config = dataclasses.replace(CONFIG, max_steps=9)
    first = [batch for parts in steps_of(config) for batch in parts]
    pixels = pixels_by_number([first])
    names = [name for batch in first for name in batch.ids]
    assert all(names.count(name) == 4 for name in names), "four epochs of nine"
    for name in set(names):
        numbers = [number for number, other in enumerate(names) if other == name]
        assert len({pixels[number] for number in numbers}) > 1
    other = pixels_by_number(steps_of(dataclasses.replace(config, seed=1)))
    assert sum(other[number] == pixels[number] for number in pixels) < 5


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_weights_make_the_mean_over_workers_the_mean_over_images(world_size):
    workers = [steps_of(CONFIG, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step in zip(*workers, strict=True):
        batches = [batch for parts in step for batch in parts]
        assert sum(batch.weight for batch in batches) == pytest.approx(world_size)
        for batch in batches:
            if batch.weight:
                assert batch.weight / len(batch.ids) == pytest.approx(world_size / 4)


def test_a_share_may_come_in_parts():
    config = dataclasses.replace(CONFIG, accumulate=3)
    whole, cut = pixels_by_number(steps_of(CONFIG)), pixels_by_number(steps_of(config))
    assert whole == cut
    assert [[len(batch.ids) for batch in step] for step in steps_of(config)] == [[1, 1, 2]] * 6
    assert parts([1], 3) == [[1]]


def test_damaged_and_missing_images_are_named_and_left_out():
    pieces = DrawnPieces(damaged=(2, 5))
    steps = list(steps_of(CONFIG, pieces=pieces))
    broken = [text for step in steps for batch in step for text in batch.broken]
    assert {text.partition(":")[0] for text in broken} == {"photo 2", "photo 5"}
    assert "photo 5: it is gone" in broken
    for step in steps:
        (batch,) = step
        assert len(batch.ids) + len(batch.broken) == 4
        assert batch.weight == pytest.approx(len(batch.ids) / 4)


def test_a_batch_without_a_single_good_image_is_an_empty_picture_of_no_weight():
    (step, *_) = steps_of(CONFIG, pieces=DrawnPieces(damaged=tuple(range(9))))
    (batch,) = step
    assert batch.weight == 0
    assert batch.images_BHW3.shape == (1, 64, 64, 3)
    assert (batch.labels_BHW == NO_CLASS).all()


def test_labels_lose_the_value_to_be_ignored():
    (step, *_) = steps_of(CONFIG)
    labels = step[0].labels_BHW
    assert set(labels.unique().tolist()) <= {NO_CLASS, 0, 1, 2, 3, 4}
    assert (labels == NO_CLASS).any()


def test_a_mask_with_a_label_beyond_the_classes_is_refused():
    mask = index_png(torch.tensor([[0, 1], [7, 255]]).numpy(), 5)
    with pytest.raises(ValueError, match="label 7, but there are 5 classes"):
        decode_labels(mask, 5)
    assert decode_labels(mask, 8).tolist() == [[0, 1], [7, NO_CLASS]]


def test_images_of_another_step_are_refused():
    stream = Stream(make_ingest(CONFIG), first_step=1)
    with pytest.raises(RuntimeError, match="step 0 got the samples"):
        next(read_steps(CONFIG, stream, 0, 1))


def test_a_stream_that_ends_early_is_an_error():
    short = make_ingest(dataclasses.replace(CONFIG, max_steps=3))
    with pytest.raises(RuntimeError, match="ended at step 3 of 6"):
        list(read_steps(CONFIG, Stream(short), 0, 1))


def test_a_feed_hands_on_items_errors_and_how_long_they_took():
    feed = Feed(iter(range(5)))
    assert list(feed) == [0, 1, 2, 3, 4]
    assert feed.made == 5
    assert feed.making_seconds >= 0

    def failing():
        yield 1
        raise OSError("the bucket is gone")

    with pytest.raises(OSError, match="the bucket is gone"):
        list(Feed(failing()))


@pytest.mark.ray
def test_ray_data_hands_out_the_same_batches(local_ray):
    """Two readers of one stream, from the middle on: what the functions alone would have made."""

    @local_ray.remote(num_cpus=0)
    class Reader:
        def read(self, stream, config, first_step):
            found = []
            for (batch,) in read_steps(config, stream, first_step, 2):
                found.append((batch.numbers, batch.images_BHW3.numpy().tobytes()))
            return found

    config = dataclasses.replace(CONFIG, max_steps=8)
    streams = make_ingest(config).split(3, 2)
    readers = [Reader.remote() for _ in streams]
    found = local_ray.get(
        [
            reader.read.remote(stream, config, 3)
            for reader, stream in zip(readers, streams, strict=True)
        ]
    )
    for rank, batches in enumerate(found):
        wanted = [step[0] for step in steps_of(config, 3, rank, 2)]
        assert [numbers for numbers, _ in batches] == [batch.numbers for batch in wanted]
        assert [pixels for _, pixels in batches] == [
            batch.images_BHW3.numpy().tobytes() for batch in wanted
        ]
