"""Whether all nodes of a cluster see the same output, which a folder of each one's disk is not."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pyarrow.fs import LocalFileSystem

from pipelines.storage import Location


@contextmanager
def marked(output: Location) -> Iterator[Location | None]:
    """Have an empty file in a local output inside the block; it tells the folder from others.

    A bucket is the same for all and gets none. The file is named like a draft, so that one that a
    killed job leaves does not count.
    """
    if not isinstance(output.fs, LocalFileSystem):
        yield None
        return
    marker = output.at(f".start.{uuid4().hex}")
    marker.write(b"")
    try:
        yield marker
    finally:
        marker.remove()


def check_same_folder(output: Location, marker: Location | None) -> None:
    """Require that this process sees the output of the driver, wherever it runs.

    Args:
        output: As the driver names it.
        marker: From `marked`; None: it is not looked for.

    Raises:
        ValueError: It does not.
    """
    if marker is not None and not marker.exists():
        raise ValueError(
            f"the output {output.uri} is not the same folder on every node of the cluster, not on "
            f"{socket.gethostname()}: choose a bucket (s3://...) or a disk that all of them share"
        )
