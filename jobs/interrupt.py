"""How a job ends when a person presses Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobs import session

STATUS = 130
"""Exit status of a program that Ctrl-C ended, as shells count."""


@contextmanager
def interruptible(consequence: str) -> Iterator[None]:
    """Let Ctrl-C end the program with one line and the status of an interrupted one."""
    try:
        yield
    except KeyboardInterrupt:
        session.say(f"Interrupted: {consequence}.")
        raise SystemExit(STATUS) from None
