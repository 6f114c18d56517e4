"""A job that is submitted to a cluster: the upload, the job's own folder, the shared result."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pyarrow.parquet as pq
import pytest

from tests.fakes import write_photos
from tests.machines import wait_until

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
JOB_SECONDS = 600


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**extra):
    """The environment without another cluster's address, with this Python's programs first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "RAY_AUTH_MODE": "disabled", **extra}


def processes_of(folder):
    """The numbers of the processes of the cluster whose files are in `folder`, of no others."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True
    )
    lines = [line.split(None, 1) for line in listing.stdout.splitlines() if str(folder) in line]
    return [int(pid) for pid, _ in lines]


def stop(head, folder):
    """End one cluster by its own processes; `ray stop` would end every Ray of this machine."""
    os.killpg(head.pid, signal.SIGTERM)
    try:
        head.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)
    if not wait_until(lambda: not processes_of(folder), seconds=15):
        for pid in processes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not processes_of(folder), seconds=10), (
        "a process of the cluster is left"
    )


@pytest.fixture(scope="module")
def cluster():
    """A head of its own; its address for `ray job submit`, and the folder of its files."""
    # A short path: sockets lie in it, and their paths may have 107 characters only.
    folder = Path(tempfile.mkdtemp(prefix="sed-ray-", dir="/tmp"))
    port = free_port()
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    flags = {
        "port": free_port(),
        "dashboard-port": port,
        "dashboard-host": "127.0.0.1",
        "dashboard-agent-listen-port": free_port(),
        "dashboard-agent-grpc-port": free_port(),
        "metrics-export-port": free_port(),
        "runtime-env-agent-port": free_port(),
        "ray-client-server-port": free_port(),
        "min-worker-port": 0,
        "max-worker-port": 0,
        "node-ip-address": "127.0.0.1",
        "num-cpus": 4,
        "temp-dir": folder,
    }
    command += [f"--{name}={value}" for name, value in flags.items()]
    log = (folder / "head.log").open("w")
    head = subprocess.Popen(
        command, env=environment(), stdout=log, stderr=log, start_new_session=True, cwd="/"
    )
    try:
        address = f"http://127.0.0.1:{port}"
        up = wait_until(lambda: answers(f"{address}/api/version"), lambda: head.poll() is None)
        assert up, (folder / "head.log").read_text()
        yield address, folder
    finally:
        stop(head, folder)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def answers(url):
    """Say whether the head is up."""
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def submit(address, *flags):
    """Run `ray job submit` in the clone; a head that is still starting says to try again."""
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            [BIN / "ray", "job", "submit", "--working-dir", ".", "--", "python", "-m", *flags],
            cwd=ROOT,
            env=environment(RAY_API_SERVER_ADDRESS=address),
            capture_output=True,
            text=True,
            timeout=JOB_SECONDS,
        )
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(2)


def table(folder):
    """All rows of a folder of Parquet files."""
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.ray
@pytest.mark.timeout(1500)
def test_a_submitted_job_labels_a_folder(cluster, random_checkpoint, tmp_path):
    address, files = cluster
    photos = tmp_path / "photos"
    names = write_photos(photos, 3)
    (photos / "empty.png").touch()
    output = tmp_path / "output"
    command = [
        "jobs.label",
        *("--images", str(photos), "--output", str(output), "--model", str(random_checkpoint)),
        *("--classes", "red ball", "grass", "--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db"),
    ]
    done = submit(address, *command)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    labels, errors = table(output / "labels"), table(output / "errors")
    assert sorted(Path(row["image_uri"]).name for row in labels) == names
    assert [Path(row["image_uri"]).name for row in errors] == ["empty.png"]
    assert json.loads((output / "run.json").read_text())["status"] == "done"
    assert (output / "report" / "index.html").is_file()

    uploads = list(files.glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/"))
    assert len(uploads) == 1
    assert (uploads[0] / "jobs" / "label.py").is_file()
    assert not (uploads[0] / ".venv").exists()
    size = sum(file.stat().st_size for file in uploads[0].rglob("*") if file.is_file())
    assert size < 60_000_000

    wrong = submit(address, *command, "--rejection", "topk:1")
    assert wrong.returncode != 0
    assert "rejection" in wrong.stdout


@pytest.mark.ray
@pytest.mark.timeout(1500)
def test_a_submitted_sweep_shares_the_cpus_of_the_cluster(cluster, tmp_path):
    address, _ = cluster
    output = tmp_path / "sweep"
    (tmp_path / "space.json").write_text('{"policies": ["fixed:2"]}')
    command = [
        "jobs.sweep",
        *("--dataset", "scenes", "--limit", "8", "--output", str(output)),
        *("--classes", "grass", "sand", "blue sky", "water", "red ball", "green box"),
        *("--space", str(tmp_path / "space.json"), "--search", "grid", "--concurrency", "2"),
        *("--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db"),
    ]
    done = submit(address, *command)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads((output / "sweep.json").read_text())
    assert (found["concurrency"], found["threads"]) == (2, 2)  # of the cluster's four
    assert {one["rejection"] for one in found["trials"]} >= {"none", "topk:1", "fixed:2"}
    assert json.loads((output / "rejection.json").read_text())["rejection"] == found["chosen"]
    assert (output / "report" / "index.html").is_file()
