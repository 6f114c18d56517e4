"""The repository itself: versions agree, modules import, pins fit everybody, the root is tidy."""

import importlib
import logging
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from jobs import label, session

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("sed", "pipelines", "jobs")
JOBS = ("benchmark", "demo", "evaluate", "export", "label", "prepare", "sweep", "train", "verify")
FOLDERS = {*PACKAGES, "tests", ".ci", ".github"}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins():
    return (ROOT / "requirements.txt").read_text()


def modules():
    """The name of every module of the three packages."""
    folders = {name: str(ROOT / name) for name in PACKAGES}
    found = [
        module.name
        for name, folder in folders.items()
        for module in pkgutil.walk_packages([folder], prefix=f"{name}.")
    ]
    return [*PACKAGES, *found]


def normal(name):
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_versions_of_the_project_the_installation_and_the_changelog_agree(project):
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE).group(1)
    assert project["version"] == newest == version("sed-on-ray")


@pytest.mark.parametrize("name", modules())
def test_every_module_imports(name):
    importlib.import_module(name)


def test_sed_imports_without_the_cluster():
    code = """if True:
        import sed, sys
        assert all(hasattr(sed, name) for name in sed.__all__)  # they are imported when asked for
        cluster = {"ray", "mlflow", "pyarrow", "tyro", "pipelines", "jobs"}
        print(sorted(cluster & set(sys.modules)))
    """
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


def test_the_model_s_libraries_are_imported_where_a_model_is_made_only():
    code = """if True:
        import pipelines.evaluate, pipelines.label, pipelines.labeller, pipelines.sweep.record
        import sed, sys
        print(sed.ClassScores, sorted({"open_clip", "timm", "torchvision"} & set(sys.modules)))
    """
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "<class 'sed.scores.ClassScores'> []"


HEAVY = {"torch", "open_clip", "ray", "mlflow", "matplotlib", "optuna", "pandas", "transformers"}
"""Libraries that take a second or more to import: nobody waits for them to read a sentence."""


def run_and_name_the_heavy(command, *flags):
    """Run a job in a process of its own; return its exit status, and what it imported of HEAVY."""
    code = f"""if True:
        import runpy, sys
        sys.argv[1:] = {list(map(str, flags))!r}
        try:
            runpy.run_module({command!r}, run_name="__main__")
        except SystemExit as end:
            print(end.code or 0, *({HEAVY!r} & set(sys.modules)))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, *found = done.stdout.splitlines()[-1].split()
    return int(status), found


@pytest.mark.parametrize("name", JOBS)
def test_help_needs_no_heavy_library(name):
    assert run_and_name_the_heavy(f"jobs.{name}", "--help") == (0, [])


@pytest.mark.parametrize("name", JOBS)
def test_help_says_in_words_what_may_be_left_out(name, monkeypatch, capsys):
    job = importlib.import_module(f"jobs.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        session.parse(job.Args)
    said = capsys.readouterr().out
    assert re.search(r"--mlflow-uri STR .*\(optional\)", said, re.DOTALL)
    assert "None" not in said
    assert "(default: )" not in said


def test_what_is_left_out_has_its_default(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["label", "--output", "out", "--classes", "a", "b, c"])
    assert session.parse(label.Args) == label.Args(output="out", classes=("a", "b, c"))


def test_only_the_one_message_is_left_out_of_a_log(caplog):
    session.leave_out("ray.some.module", "Progress bars disabled.")
    logger = logging.getLogger("ray.some.module")
    logger.warning("Progress bars disabled. To enable, set ...")
    logger.warning("the disk is full")
    assert caplog.messages == ["the disk is full"]


@pytest.mark.parametrize(
    ("message", "kept"), [("Failed to fetch metrics for 3 trial(s)", False), ("x", True)]
)
def test_only_the_missing_files_of_tune_are_left_out_of_the_log(message, kept):
    name = "ray.tune.analysis.experiment_analysis"
    session.leave_out(name, session.OF_NO_USE[name])
    record = logging.LogRecord(name, logging.WARNING, "", 0, message, None, None)
    assert bool(logging.getLogger(name).filter(record)) == kept


OUT = ("--output", "/nowhere/out")


@pytest.mark.parametrize(
    ("job", "flags"),
    [
        ("label", ("--images", "/nowhere", "--classes", "a", *OUT)),
        ("label", ("--images", ROOT, "--vocabulary", "ade1", *OUT)),
        ("label", ("--images", ROOT, "--classes", "a", "--rejection", "topk:x", *OUT)),
        ("evaluate", ("--dataset", "folder=/nowhere")),
        ("evaluate", ("--dataset", "scenes", "--rejection", "topk:x")),
        ("sweep", ("--dataset", "folder=/nowhere", *OUT)),
        ("sweep", ("--dataset", "scenes", "--trials", "0", *OUT)),
        ("train", ("--dataset", "folder=/nowhere", *OUT)),
        ("train", ("--dataset", "scenes", "--workers", "x", *OUT)),
        ("benchmark", ("--rejection", "topk:x")),
        ("demo", ("--rejection", "topk:x", *OUT)),
        ("prepare", ("folder", "--source", "/nowhere", *OUT)),
        ("verify", ("--labels", "/nowhere", "--images", ROOT)),
        ("export", ("--labels", "/nowhere", "--format", "coco", *OUT)),
    ],
)
def test_what_is_wrong_by_itself_is_refused_before_a_heavy_library_is_loaded(job, flags):
    assert run_and_name_the_heavy(f"jobs.{job}", *flags) == (2, [])


def test_the_pins_name_no_address(pins):
    lines = [line for line in pins.splitlines() if not line.startswith("#")]
    assert lines
    wrong = [
        line
        for line in lines
        if "://" in line or " @ " in line or line.startswith("-") or "==" not in line
    ]
    assert wrong == []


def test_every_dependency_is_pinned_within_its_range(project, pins):
    from packaging.requirements import Requirement

    pinned = {}
    for line in pins.splitlines():
        if "==" in line and not line.startswith("#"):
            requirement = Requirement(line)
            pinned[normal(requirement.name)] = next(iter(requirement.specifier)).version
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pinned[normal(wanted.name)]), text


def test_the_root_holds_the_agreed_folders_only():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone: ignored files cannot be told from ours")
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {line.split("/")[0] for line in files.splitlines() if "/" in line}
    assert folders <= FOLDERS
