"""Which errors of a training are worth another try: those of what was lost, not its own."""

import torch.distributed as dist
from ray.exceptions import RayTaskError
from ray.train import UserCallback

CONNECTIONS = ("gloo", "NCCL", "Connection")
"""Words in the errors of workers whose neighbour was lost."""


class EndOnOwnErrors(UserCallback):
    """Ends a training whose error would come again; without it Ray Train tries every one again."""

    def after_exception(self, run_context: object, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the first error, unless a worker, a node or a connection was lost.

        Ray Train gives up on an error that is raised here.
        """
        errors = list(worker_exceptions.values())
        if not any(map(tells_of_a_loss, errors)):
            raise errors[0]


def tells_of_a_loss(error: BaseException) -> bool:
    """Say whether an error comes from a lost worker, node, connection or store."""
    if isinstance(error, RayTaskError):
        return tells_of_a_loss(error.cause)
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    if isinstance(error, OSError | dist.DistError):
        return True
    if type(error).__module__.partition(".")[0] == "ray":
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in CONNECTIONS)
