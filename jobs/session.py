"""What every job shares: its common flags, its logging, its cluster and its exit status.

Exit status: 0 done; 1 the job failed (an uncaught exception); 2 the input is wrong and nothing was
started; 130 a person pressed Ctrl-C (`jobs.interrupt`).
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import tyro

logger = logging.getLogger("jobs")

OF_NO_USE = {
    "ray._private.authentication.authentication_token_setup": "Token authentication is enabled for",
    "ray.data._internal.progress": "Progress bars disabled.",
    # Of files that a sweep switches off.
    "ray.tune.analysis.experiment_analysis": "Failed to fetch metrics for ",
}
"""Messages of Ray that say only that its default or our setting holds: logger and first words."""

TOO_LATE = "timed out during startup"
"""Words of Ray's error where its processes took too long to come up."""

Args = TypeVar("Args", bound="SessionArgs")

IDLE_MILLISECONDS = 600_000
"""How long a process of a local Ray waits for its next task. After Ray's own second, those that
decode end between two shards, and each one that follows takes seconds of a core to start."""


@dataclass(frozen=True, kw_only=True)
class SessionArgs:
    """Flags that every job takes."""

    mlflow_uri: str | None = None
    """MLflow tracking server; default: MLFLOW_TRACKING_URI, else a local SQLite store."""

    experiment: str = "sed"
    """MLflow experiment the run is filed under."""

    json: bool = False
    """Print the result as one JSON object on the last line of stdout."""


def parse(args_type: type[Args]) -> Args:
    """Read the command line into `args_type`; a wrong flag ends the program with status 2."""
    start_logging()
    parsed = tyro.cli(in_words(args_type), config=(tyro.conf.DisallowNone,))
    return args_type(**{field.name: getattr(parsed, field.name) for field in fields(args_type)})


def in_words(args_type: type[Args]) -> type[Args]:
    """Return a subclass whose help says of what may be left out that it is optional.

    Left to itself it would say "default: None" there, or "default: " and nothing.
    """
    hints = get_type_hints(args_type, include_extras=True)
    optional = tyro.conf.arg(help_behavior_hint="(optional)")
    repeatable = tyro.conf.UseAppendAction  # says so itself
    changed = {
        field.name: Annotated[hints[field.name], optional]
        for field in fields(args_type)
        if field.default in (None, ()) and repeatable not in metadata(hints[field.name])
    }
    kept = {"__annotations__": changed, "__doc__": args_type.__doc__}
    defaults = {field.name: field.default for field in fields(args_type) if field.name in changed}
    module = {"__module__": args_type.__module__}
    made: Any = type(args_type.__qualname__, (args_type,), kept | defaults | module)
    return dataclass(frozen=True, kw_only=True)(made)


def metadata(hint: object) -> tuple[object, ...]:
    """Return what is annotated beside a type."""
    return getattr(hint, "__metadata__", ())


def start_logging() -> None:
    """Send log lines to stderr, so that stdout holds results only."""
    logging.basicConfig(
        level=os.environ.get("SED_LOG_LEVEL", "INFO"),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
    )


@contextmanager
def checking_input() -> Iterator[None]:
    """Turn a ValueError or OSError of the enclosed checks into one sentence and exit status 2."""
    try:
        yield
    except (ValueError, OSError) as error:
        sentence = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"error: {sentence}\n")
        raise SystemExit(2) from error


def connect(num_cpus: int | None = None, runtime_env: dict[str, Any] | None = None) -> None:
    """Join the cluster this job was started in (RAY_ADDRESS), else start a local one.

    Args:
        num_cpus: Logical CPUs of a local Ray; ignored when a cluster is joined.
        runtime_env: What the workers of a local Ray are started with; ignored likewise.
    """
    import ray

    for name, beginning in OF_NO_USE.items():
        leave_out(name, beginning)
    if ray.is_initialized():
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=True)
    else:
        try:
            ray.init(
                "local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=True,
                runtime_env=runtime_env,
                _system_config={"idle_worker_killing_time_threshold_ms": IDLE_MILLISECONDS},
            )
        except Exception as error:  # Ray raises no type of its own
            if TOO_LATE not in str(error):
                raise
            raise SystemExit(
                "error: Ray did not start in time, the machine is busy: give the command again"
            ) from error


def leave_out(name: str, beginning: str) -> None:
    """Keep one message out of the log: the one of this logger that begins so."""
    logging.getLogger(name).addFilter(lambda record: not str(record.msg).startswith(beginning))


def say(text: str) -> None:
    """Write one line for the person at the terminal to stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_run(run_id: str | None, uri: str) -> None:
    """Say which MLflow run has what the job found.

    Args:
        run_id: None where the server could not be reached.
        uri: Its address, without a password.
    """
    if run_id:
        say(f"MLflow: run {run_id} in {uri}")
    else:
        say(f"MLflow: nothing recorded, {uri} did not answer")


def finish(result: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the result: as one JSON object on the last line of stdout when asked to."""
    if as_json:
        say(json.dumps(result, default=str))
