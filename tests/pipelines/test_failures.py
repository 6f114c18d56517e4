"""Which errors end a training at once, and which are tried again."""

import pickle

import pytest
import torch
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import UserCallback

from pipelines.failures import EndOnOwnErrors
from pipelines.train_step import LossNotFiniteError

NEIGHBOUR = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer")


@pytest.mark.parametrize(
    "error",
    [
        LossNotFiniteError(3, float("nan"), ["photo 1"]),
        torch.OutOfMemoryError("CUDA out of memory"),
        ValueError("a wrong setting"),
        RuntimeError("size mismatch"),
        FileNotFoundError("a photo"),
        RayTaskError("read", "traceback", ValueError("a wrong mask")),
    ],
)
def test_an_error_that_would_come_again_ends_a_training(error):
    with pytest.raises(type(error)):
        EndOnOwnErrors().after_exception(None, {1: error})


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        NEIGHBOUR,
        torch.distributed.DistNetworkError("the other side is gone"),
        OSError("When uploading: SlowDown"),
        RayTaskError("read", "traceback", ActorDiedError()),
    ],
)
def test_what_was_lost_is_tried_again(error):
    assert isinstance(EndOnOwnErrors(), UserCallback)
    EndOnOwnErrors().after_exception(None, {0: error})
    EndOnOwnErrors().after_exception(None, {0: ValueError("collateral"), 1: error})


def test_a_loss_that_is_not_finite_travels_to_the_driver():
    error = LossNotFiniteError(3, float("inf"), ["photo 1", "photo 2"])
    found = pickle.loads(pickle.dumps(error))
    assert (str(found), found.step, found.ids) == (str(error), error.step, error.ids)
