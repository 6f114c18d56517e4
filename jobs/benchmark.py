"""Measure time and memory of a model: python -m jobs.benchmark --model base --classes 20 150."""

import itertools
import json
import os
import platform
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import sed
from jobs.session import SessionArgs, checking_input, connect, finish, parse, say
from pipelines import memory, tracking

if TYPE_CHECKING:
    # torch and open_clip take seconds: they are imported after what the flags say is checked.
    from pipelines.benchmark import Case
    from pipelines.suite_file import SuiteFile
    from pipelines.throughput import Throughput

HEADER = (
    f"{'classes':>7} {'rejection':<22} {'kept':>6} {'batch':>5} {'encoder s':>10} "
    f"{'decoder s':>10} {'labels s':>9} {'whole/encoder':>14} {'images/s':>9} {'peak GB':>8}"
)
SCENES = 32
"""Drawn to say what an approximation costs."""

ALLOCATOR = (
    "LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_", "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
)  # fmt: skip
"""Variables that change how memory is given out, and with it the time."""


UNMEASURED = ("mlflow_uri", "experiment", "json", "output", "plot")
"""Flags that say where a result goes."""


@dataclass(frozen=True, kw_only=True)
class Args(SessionArgs):
    """Measure latency, throughput and peak memory, each case in a fresh process of this machine.

    Give it a quiet machine. Times are medians; `whole` is encoder and decoder, `labels` makes the
    label map. Ratios to the encoder's time compare across machines.
    """

    model: str = "nano"
    """nano, a checkpoint's path, or models:/NAME/VERSION; base and large have random weights:
    the time does not depend on them, how many classes a rejection keeps does (see survivors)."""

    classes: tuple[int, ...] = (20, 150, 847)
    """How many class names, one or several numbers."""

    rejection: tuple[str, ...] = ("none",)
    """One or several policies, as in jobs.label."""

    survivors: tuple[int, ...] = ()
    """Measure the rejections as if they kept these many random classes, one or several numbers;
    the policy is asked all the same. Default: what it really keeps."""

    batch_size: tuple[int, ...] = (1,)
    """Images that go through the model together, one or several numbers."""

    image_side: int = 640
    """Side of the square photo whose label map is made, in pixels."""

    threads: int = 1
    """CPU threads."""

    warmup: int = 1
    """Runs of each case before the clock starts."""

    repeats: int = 3
    """Runs of each case of which the median is taken."""

    device: str | None = None
    """cpu or cuda; default: cuda where there is one."""

    features: bool = False
    """Measure labelling again from kept features too (see --keep-features of jobs.label)."""

    optimize: bool = True
    """Measure the form for inference, which jobs use; --no-optimize: the plain form."""

    compile: bool = False
    """Compile the encoder with torch.compile, and the decoder of the form for inference."""

    suite: bool = False
    """Measure instead the table of speeds that the project promises, and print each goal beside
    what was measured; flags for single cases have no effect. Give it --model base."""

    rows: tuple[str, ...] = ()
    """With --suite: measure only these rows, by their names as the suite prints them (like
    "150 classes"), or approximations, or profile (on a GPU). They take their places among the rows
    that suite.json of --output holds of the same device, torch, model and allocator. Default: all.
    """

    profile: bool = False
    """Measure instead what the time is spent on, part by part and operator by operator, with the
    first of the class counts, rejections and batch sizes: profile.json, profile.png, and
    trace.json.gz for chrome://tracing or ui.perfetto.dev."""

    output: str = "out/benchmark"
    """Folder for what --suite and --profile write."""

    pipeline: bool = False
    """Measure instead how busy a whole label job keeps one copy of the model, and how much memory
    of this machine it holds, with the first of the class counts, rejections and batch sizes. Prints
    the goal beside it: base has 95 % of its speed alone, a stand-in is busy 85 % of the time."""

    images: int = 1000
    """Photos of the label job, JPEG of 640 x 480 pixels."""

    stand_in_ms: float = 0.0
    """Milliseconds for each image of a stand-in model that does not use the CPU, as one on a GPU
    does; 0: the model itself."""

    plot: str | None = None
    """PNG file to write with the memory of the label job over its images."""

    decode: bool = False
    """Measure instead what an image takes of a CPU core besides the model, at 0.3, 2 and 12
    megapixels: to decode it, and to describe its labels. Says how many cores a GPU needs at least
    for each: to decode on any node, to describe on its own."""

    model_ms: float = 8.0
    """With --decode: milliseconds that the model on a GPU takes for an image."""


def main(args: Args) -> None:
    """Check the flags, measure what they ask for, and say what was found."""
    with checking_input():
        check(args)
        mlflow_uri = tracking.resolve_uri(args.mlflow_uri)
        policies = (tracking.resolve_rejection(one, mlflow_uri) for one in args.rejection)
        resolved = tuple(str(sed.Rejection.parse(policy)) for policy in policies)
        model = tracking.resolve_model(args.model, mlflow_uri)
        from pipelines.benchmark import RANDOM

        plan, names = cases(replace(args, rejection=resolved)), suite_names(args, model)
        if model not in RANDOM:
            sed.check_source(model)
    if args.suite:
        measure_suite(args, model, mlflow_uri, names)
    elif args.pipeline:
        measure_pipeline(args, plan[0], model, mlflow_uri)
    elif args.decode:
        measure_decoding(args, model, mlflow_uri)
    elif args.profile:
        measure_profile(args, plan[0], model, mlflow_uri)
    else:
        measure_cases(args, plan, model, mlflow_uri)


def measure_cases(args: Args, plan: "Sequence[Case]", model: str, mlflow_uri: str) -> None:
    """Measure case after case, each in a process of its own."""
    from pipelines.benchmark import measure_in_subprocess

    facts = environment(args)
    say(", ".join(f"{name}: {value}" for name, value in facts.items()))
    say(HEADER)
    measured = []
    for case in plan:
        measured.append(measure_in_subprocess(replace(case, model=model)))
        say(line(measured[-1]))
        if args.features:
            say(line_again(measured[-1]))
    name = measure_in_subprocess(replace(plan[0], model=model, classes=0, batch_size=1))
    seconds, ratio = name["seconds"]["class name"], name["per_encoder"]["class name"]
    say(f"embedding one class name: {seconds:.3f} s, {ratio:.2f} of the encoder's time")
    with tracking.run(mlflow_uri, args.experiment, "benchmark", {"job": "benchmark"}) as run:
        run.params(facts | {"threads": args.threads, "repeats": args.repeats})
        run.metrics(metrics(measured))
    finish(facts | {"run_id": run.id, "cases": measured, "class_name": name}, as_json=args.json)


def measure_suite(args: Args, model: str, mlflow_uri: str, names: Sequence[str]) -> None:
    """Measure the table or some of its rows; write it as JSON, row by row, and as a picture."""
    from pipelines import suite, suite_picture
    from pipelines.suite_file import SuiteFile

    facts, table = environment(args), suite.rows(model, device(args))
    say(", ".join(f"{name}: {value}" for name, value in facts.items()))
    folder = Path(args.output)
    file = SuiteFile(folder / "suite.json", facts, [row.name for row in table])
    measured = []
    for row in suite.run([row for row in table if row.name in names], say, file.rows):
        file.put_row(row)
        measured.append(row)
    file.compare_again(table)
    if suite.ACCURACY in names:
        attempt(file, suite.ACCURACY, lambda: measure_accuracy(args, file))
    if suite.PROFILE in names:
        (profiled,) = (row.case for row in table if row.name == suite.FAST)
        attempt(file, suite.PROFILE, lambda: write_profile(facts, profiled, folder))
    rows = file.in_order()
    for text in suite.total(rows):
        say(text)
    unit = suite_picture.MILLISECONDS if device(args) == "cuda" else suite_picture.RATIO
    suite_picture.draw(rows, folder / "suite.png", suite_picture.title(facts, rows), unit)
    with tracking.run(mlflow_uri, args.experiment, "benchmark", {"job": "benchmark"}) as run:
        run.params(facts)
        run.metrics(suite_metrics(measured))
        for name in ("suite.json", "suite.png"):
            run.artifact(folder / name)
    goals = [goal for row in rows for goal in row["goals"]]
    met = f"{sum(goal['met'] for goal in goals)} of {len(goals)} goals met"
    say(f"{met}; {folder / 'suite.json'} and {folder / 'suite.png'}")
    finish(file.result() | {"run_id": run.id}, as_json=args.json)
    if failed := file.failed(names):
        raise SystemExit(f"error: these rows failed: {'; '.join(failed)}")


def measure_accuracy(args: Args, file: "SuiteFile") -> None:
    """Measure what approximations cost, and put it into the file of the suite."""
    import torch

    from pipelines import approximations

    say("what approximations cost: the bundled model on drawn scenes, of a CPU on one thread ...")
    torch.set_num_threads(1)  # as the rows, which have processes of their own
    accuracy = approximations.measure(SCENES, device=device(args))
    for one in accuracy:
        say(approximations.line(one))
    file.put_accuracy(accuracy)


def attempt(file: "SuiteFile", part: str, work: Callable[[], object]) -> None:
    """Do a part of the suite; where it fails, say why, and let the others go on."""
    error = None
    try:
        work()
    except Exception as failed:  # whatever it is, what was measured before is worth its end
        error = f"{type(failed).__name__}: {failed}"
        say(f"  {part} FAILED: {error}")
    file.put_error(part, error)


def suite_names(args: Args, model: str) -> tuple[str, ...]:
    """Return which rows of the suite to measure.

    Raises:
        ValueError: A name that no row has, or rows without the suite.
    """
    if args.rows and not args.suite:
        raise ValueError("--rows chooses rows of the table of speeds: it needs --suite")
    if not args.suite:
        return ()
    from pipelines import suite

    return suite.choose(suite.names(model, device(args)), args.rows)


def suite_metrics(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of the table by names that MLflow accepts."""
    return {
        re.sub(r"[^\w./: -]", "_", f"{row['name']}/{name}"): value
        for row in found
        for name, value in row["figures"].items()
    }


def measure_pipeline(args: Args, case: "Case", model: str, mlflow_uri: str) -> None:
    """Label drawn photos, and say how busy that kept the model."""
    import torch

    from pipelines import suite, throughput
    from pipelines.plan import LabelConfig

    case = replace(case, model=model)
    load_model = partial(throughput.StandIn, seconds=args.stand_in_ms / 1000)
    if not args.stand_in_ms:
        load_model = partial(throughput.load_case, case)
    torch.set_num_threads(args.threads)
    with TemporaryDirectory() as name:
        folder = Path(name)
        throughput.draw_photos(
            folder / "photos", args.images, width=throughput.WIDTH, height=throughput.HEIGHT
        )
        config = LabelConfig(
            images=str(folder / "photos"),
            output=str(folder / "out"),
            classes=[f"class {index}" for index in range(case.classes)],
            rejection=case.rejection,
            batch_size=case.batch_size,
            workers=1,
        )
        alone = throughput.time_alone(load_model(case.device), config, batches=args.repeats)
        found = throughput.measure(
            config, load_model, folder=folder / "clocks", connect=connect, alone=alone
        )
    facts = environment(args) | {"stand-in ms": args.stand_in_ms}
    say(", ".join(f"{name}: {value}" for name, value in facts.items()))
    say(sentence(found))
    goals = throughput.goals(found, None if args.stand_in_ms else config_of(model))
    for goal in goals:
        say(suite.goal_line(goal))
    with tracking.run(mlflow_uri, args.experiment, "benchmark", {"job": "benchmark"}) as run:
        run.params(facts)
        run.metrics({"pipeline_per_model": found.ratio, "busy": found.busy} | held(found))
        record_plot(found, args.plot, run)
    result = facts | asdict(found) | {"ratio": found.ratio, "goals": goals, "run_id": run.id}
    finish(result, as_json=args.json)


def config_of(model: str) -> sed.SEDConfig:
    """Return the sizes of a model that can be measured."""
    from pipelines.benchmark import RANDOM

    return RANDOM[model]() if model in RANDOM else sed.source_config(model)


def measure_decoding(args: Args, model: str, mlflow_uri: str) -> None:
    """Measure what an image takes of a core besides the model."""
    from pipelines import cpu_work

    facts = environment(args)
    say(", ".join(f"{name}: {value}" for name, value in facts.items()))
    found = cpu_work.measure(config_of(model), repeats=args.repeats)
    for text in cpu_work.table(found, args.model_ms / 1000):
        say(text)
    with tracking.run(mlflow_uri, args.experiment, "benchmark", {"job": "benchmark"}) as run:
        run.params(facts)
        for one in found:
            figures = {
                "decode_seconds": one.decode_seconds,
                "describe_seconds": one.describe_seconds,
            }
            run.metrics({f"{one.width}x{one.height}/{name}": x for name, x in figures.items()})
    sizes = [asdict(one) | one.cores(args.model_ms / 1000) for one in found]
    finish(facts | {"run_id": run.id, "sizes": sizes}, as_json=args.json)


def measure_profile(args: Args, case: "Case", model: str, mlflow_uri: str) -> None:
    """Profile one case, and keep what was found in a run."""
    facts = environment(args)
    say(", ".join(f"{name}: {value}" for name, value in facts.items()))
    found, files = write_profile(facts, replace(case, model=model), Path(args.output))
    with tracking.run(mlflow_uri, args.experiment, "benchmark", {"job": "benchmark"}) as run:
        run.params(facts)
        run.metrics({f"ms/{one['name']}": one["host_ms"] for one in found["parts"]})
        for file in files:
            run.artifact(file)
    finish(found | {"run_id": run.id}, as_json=args.json)


def write_profile(
    facts: Mapping[str, Any], case: "Case", folder: Path
) -> tuple[dict[str, Any], list[Path]]:
    """Profile a case; return what was found, and the files: as JSON, as a picture, as a trace."""
    from pipelines import profiling

    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("profile.json", "profile.png", "trace.json.gz")]
    data, picture, trace = files
    found = {**profiling.measure(case, trace), **facts}
    for row in profiling.lines(found):
        say(row)
    data.write_text(json.dumps(found, indent=1), encoding="utf-8")
    profiling.draw(found, picture, profiling.title(found))
    say(f"{data}, {picture} and {trace}")
    return found, files


def sentence(found: "Throughput") -> str:
    """Return what was found of a label job."""
    speed = (
        f"{found.images} images: the model alone {found.model_alone:.2f} images/s, the pipeline "
        f"{found.pipeline:.2f} ({found.ratio:.0%}), the model busy {found.busy:.0%} of the time; "
        f"with start and report {found.whole_job:.2f} images/s"
    )
    if found.memory_peak_gb is None:
        return f"{speed}; memory is not measured here"
    return (
        f"{speed}; memory {found.memory_start_gb:.2f} GB near the start, "
        f"{found.memory_end_gb:.2f} GB near the end, {found.memory_peak_gb:.2f} GB at most"
    )


def held(found: "Throughput") -> dict[str, float]:
    """Return the figures of memory; none where it was not measured."""
    names = ("memory_start_gb", "memory_end_gb", "memory_peak_gb")
    return {name: getattr(found, name) for name in names if getattr(found, name) is not None}


def record_plot(found: "Throughput", path: str | None, run: tracking.Run) -> None:
    """Draw the memory over the images, where it was measured, and keep the file in the run."""
    if not found.memory_curve:
        return
    with TemporaryDirectory() as folder:
        file = Path(path or f"{folder}/memory.png")
        memory.draw(found.memory_curve, found.images, file)
        run.artifact(file)


def check(args: Args) -> None:
    """Check the numbers and the device.

    Raises:
        ValueError: A flag makes no sense; the message says which.
    """
    positive = {
        "classes": args.classes,
        "survivors": args.survivors,
        "batch-size": args.batch_size,
        "image-side": (args.image_side,),
        "threads": (args.threads,),
        "repeats": (args.repeats,),
        "images": (args.images,),
    }
    for name, numbers in positive.items():
        if not all(number >= 1 for number in numbers):
            raise ValueError(f"--{name} must be at least 1, got {min(numbers)}")
    for name, values in [
        ("classes", args.classes),
        ("rejection", args.rejection),
        ("batch-size", args.batch_size),
    ]:
        if not values:
            raise ValueError(f"--{name} needs at least one value")
    if args.model_ms <= 0:
        raise ValueError(f"--model-ms must be more than 0, got {args.model_ms:g}")
    for name, number in (("warmup", args.warmup), ("stand-in-ms", args.stand_in_ms)):
        if number < 0:
            raise ValueError(f"--{name} cannot be negative, got {number}")
    check_device(args)
    check_plot(args)
    check_suite(args)


def check_device(args: Args) -> None:
    """Require a device that is here."""
    if args.device not in (None, "cpu", "cuda"):
        raise ValueError(f"--device is cpu or cuda, got {args.device!r}")
    if args.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError("--device cuda: torch finds no CUDA device here")


def check_suite(args: Args) -> None:
    """Require one thing to measure, and a place for the table."""
    asked = [name for name in ("suite", "pipeline", "decode", "profile") if getattr(args, name)]
    if len(asked) > 1:
        flags = " and ".join(f"--{name}" for name in asked)
        raise ValueError(f"{flags} measure different things: choose one")
    writes = args.suite or args.profile
    if writes and Path(args.output).exists() and not Path(args.output).is_dir():
        raise ValueError(f"--output is a folder, got the file {args.output!r}")


def check_plot(args: Args) -> None:
    """Require that there is something to plot, and a place for it."""
    if args.plot is None:
        return
    if not args.pipeline:
        raise ValueError("--plot shows the memory of a label job: it needs --pipeline")
    if not memory.is_measured():
        raise ValueError("--plot needs Linux and a local Ray: memory is not measured otherwise")
    path = Path(args.plot)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--plot is a file in a folder that exists, got {args.plot!r}")


def cases(args: Args) -> "list[Case]":
    """Return the cases that the flags ask for.

    Raises:
        ValueError: A rejection is not understood.
    """
    from pipelines.benchmark import Case

    return [
        Case(
            classes=classes,
            rejection=rejection,
            survivors=survivors,
            batch_size=batch_size,
            image_side=args.image_side,
            threads=args.threads,
            warmup=args.warmup,
            repeats=args.repeats,
            device=device(args),
            features=args.features,
            optimize=args.optimize,
            compile=args.compile,
        )
        for classes, batch_size, text in itertools.product(
            args.classes, args.batch_size, args.rejection
        )
        for rejection in [str(sed.Rejection.parse(text))]
        for survivors in forced_counts(args, classes, rejection)
    ]


def forced_counts(args: Args, classes: int, rejection: str) -> list[int | None]:
    """Return the counts of survivors to force: None is what the policy keeps."""
    forced = [count for count in args.survivors if count < classes]
    return [*forced] if forced and rejection != "none" else [None]


def device(args: Args) -> str:
    """Return where to measure."""
    import torch

    return args.device or ("cuda" if torch.cuda.is_available() else "cpu")


def environment(args: Args) -> dict[str, Any]:
    """Return what a figure must be read with."""
    import torch

    from pipelines.benchmark import RANDOM

    return {
        "command": command(args),
        "date": time.strftime("%Y-%m-%d"),
        "model": args.model,
        "weights": "random" if args.model in RANDOM else "as given",
        "device": torch.cuda.get_device_name() if device(args) == "cuda" else cpu_name(),
        "torch": torch.__version__,
        "load average": round(os.getloadavg()[0], 1),
        "allocator": allocator(),
    }


def allocator() -> str:
    """Return the variables that change how memory is given out, as they are set here."""
    found = [f"{name}={os.environ[name]}" for name in ALLOCATOR if name in os.environ]
    return " ".join(found) or "default"


def command(args: Args) -> str:
    """Return the command that these flags are of, without those that change no figure."""
    words = ["python", "-m", "jobs.benchmark"]
    for field in fields(Args):
        value = getattr(args, field.name)
        flag = field.name.replace("_", "-")
        if value == field.default or field.name in UNMEASURED:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)


def cpu_name() -> str:
    """Return what the processor calls itself, and its number of cores."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return f"{found[1] if found else platform.processor()} x {os.cpu_count()}"


def line(found: Mapping[str, Any]) -> str:
    """Return a case as a line under `HEADER`."""
    seconds = found["seconds"]
    return (
        f"{found['classes']:>7} {policy(found):<22} {found['kept']:>6.0f} {found['batch_size']:>5} "
        f"{seconds['encoder']:>10.3f} {seconds['decoder']:>10.3f} {seconds['labels']:>9.3f} "
        f"{found['per_encoder']['whole']:>14.2f} {images_per_second(found):>9.3f} "
        f"{found['peak_memory_gb']:>8.2f}"
    )


def line_again(found: Mapping[str, Any]) -> str:
    """Return how long a case takes from kept features."""
    seconds = found["seconds"]
    ratio = seconds["whole"] / seconds["again"]
    return f"{'':>7} from kept features: {seconds['again']:.3f} s, {ratio:.2f} times as fast"


def policy(found: Mapping[str, Any]) -> str:
    """Return the rejection of a case, and whether its result was replaced."""
    forced = found["survivors"]
    return found["rejection"] + (f" forced {forced}" if forced is not None else "")


def images_per_second(found: Mapping[str, Any]) -> float:
    """Return the throughput from pixels to label maps."""
    return found["batch_size"] / (found["seconds"]["whole"] + found["seconds"]["labels"])


def metrics(measured: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of all cases by names that MLflow accepts."""
    return {
        re.sub(
            r"[^\w./: -]", "_", f"{one['classes']}/{policy(one)}/{one['batch_size']}/{name}"
        ): value
        for one in measured
        for name, value in {
            "whole_per_encoder": one["per_encoder"]["whole"],
            "images_per_second": images_per_second(one),
            "peak_memory_gb": one["peak_memory_gb"],
        }.items()
    }


if __name__ == "__main__":
    main(parse(Args))
