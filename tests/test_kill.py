"""What really dies: the driver, a worker that holds the model, a node."""

import os
import random
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import shards
from pipelines.storage import locate
from tests import label_driver
from tests.label_driver import write_plain_photos
from tests.machines import DEADLINE, machines, processes, wait_until

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster():
    """A head with processes of its own, on this machine."""
    with machines(num_cpus=2) as ray:
        yield ray


class Job:
    """The same label job, started again and again in processes that can be killed."""

    def __init__(self, cluster, folder, checkpoint, *, photos=96, **options):
        self.images, self.output, self.trace = folder / "in", folder / "out", folder / "trace"
        write_plain_photos(self.images, photos)
        self.arguments = (self.images, self.output, checkpoint)
        self.options = {"address": cluster.address, "trace": self.trace, **options}

    def start(self):
        self.trace.unlink(missing_ok=True)
        process = processes.Process(
            target=label_driver.run, args=self.arguments, kwargs=self.options
        )
        process.start()
        return process

    def finish(self, process):
        process.join(DEADLINE)
        assert process.exitcode == 0

    def scored(self):
        """What the model did since the last start: (pid, node, photo)."""
        text = self.trace.read_text() if self.trace.exists() else ""
        return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def committed(self):
        """The photos whose labels are written."""
        files = sorted((self.output / "labels").glob("part-*.parquet"))
        uris = [uri for file in files for uri in pq.read_table(file)["image_uri"].to_pylist()]
        return [Path(uri).stem for uri in uris]

    def wanted(self):
        return sorted(path.stem for path in self.images.iterdir())

    def check_rows(self):
        """Require a row for each photo, with what an undisturbed model finds in it."""
        assert sorted(self.committed()) == self.wanted()
        for file in (self.output / "labels").glob("part-*.parquet"):
            for row in pq.read_table(file).to_pylist():
                colour = list(map(int, Path(row["image_uri"]).stem.split("-")))
                (segment,) = row["segments"]
                assert colour[segment["category_id"]] == max(colour)

    def wait_until_committed(self, process, count):
        """Wait until the labels of so many photos are written."""
        assert wait_until(lambda: len(self.committed()) >= count, process.is_alive)

    def wait_until_scored(self, process, count, node=None):
        """Wait until the model has seen so many images (on a node); return the worker's pid."""

        def scored_there():
            return [line for line in self.scored() if node in (None, line[1])]

        assert wait_until(lambda: len(scored_there()) >= count, process.is_alive)
        return int(scored_there()[-1][0])


def test_a_driver_killed_at_ten_random_moments_loses_and_repeats_nothing(
    cluster, tmp_path, random_checkpoint
):
    job = Job(cluster, tmp_path, random_checkpoint, photos=160, seconds=0.3)
    for seed in range(10):
        before = set(job.committed())
        process = job.start()
        # Most while it starts, or works on its first shard; one after that, where it has most of
        # its work before it: shards end together, and the first to be written may be seen late.
        late = seed == 3
        if late:
            job.wait_until_committed(process, len(before) + 1)
        process.join(random.Random(seed).uniform(0, 2 if late else 7))
        assert process.exitcode is None, "the model takes longer than all ten"
        process.kill()
        process.join()
        assert not before & {photo for _, _, photo in job.scored()}
    before = set(job.committed())
    assert 0 < len(before) < 160, "killed before and after the first images were done"
    job.finish(job.start())
    assert not before & {photo for _, _, photo in job.scored()}
    job.check_rows()


def test_a_killed_worker_is_replaced(cluster, tmp_path, random_checkpoint):
    job = Job(cluster, tmp_path, random_checkpoint)
    process = job.start()
    worker = job.wait_until_scored(process, 20)
    os.kill(worker, signal.SIGKILL)
    job.finish(process)
    assert len({pid for pid, _, _ in job.scored()}) == 2
    job.check_rows()


def test_the_work_of_a_killed_node_is_done_by_others(cluster, tmp_path, random_checkpoint):
    node = cluster.add_node(num_cpus=2)
    job = Job(cluster, tmp_path, random_checkpoint, workers=2, seconds=0.1)
    process = job.start()
    job.wait_until_scored(process, 8, node=node)
    cluster.kill_node()
    job.finish(process)
    assert len({name for _, name, _ in job.scored()}) == 2
    job.check_rows()


class BucketJob:
    """A label job from a bucket to a bucket, which can be killed and started again."""

    def __init__(self, cluster, folder, images, output, *, seconds=0):
        self.arguments = (images, output)
        self.output = locate(output)
        self.options = {"address": cluster.address, "folder": folder, "seconds": seconds}
        self.options["environment"] = {
            name: value for name, value in os.environ.items() if name.startswith("AWS_")
        }

    def start(self):
        process = processes.Process(
            target=label_driver.run_nano, args=self.arguments, kwargs=self.options
        )
        process.start()
        return process

    def finish(self):
        process = self.start()
        process.join(DEADLINE)
        assert process.exitcode == 0

    def kill_after(self, count):
        """Kill the driver once so many shards are done; return how many are then."""
        process = self.start()
        assert wait_until(lambda: len(shards.done_shards(self.output)) >= count, process.is_alive)
        assert process.is_alive()
        process.kill()
        process.join()
        return len(shards.done_shards(self.output))

    def rows(self, folder):
        """The rows of each file of labels/ or errors/, without the run that wrote them."""
        found = {}
        for info in shards.parts(self.output, folder):
            table = pq.read_table(info.path, filesystem=self.output.fs)
            found[info.base_name] = table.drop_columns("run_id").to_pylist()
        return found


def upload_samples(folder, bucket):
    """Put real photos, a cut one and an empty file into a bucket; return how many files."""
    photos = sorted(folder.glob("samples/*/images/*.jpg"))
    for photo in photos:
        locate(f"{bucket}/in/{photo.name}").write(photo.read_bytes())
    locate(f"{bucket}/in/cut.jpg").write(photos[0].read_bytes()[:5000])
    locate(f"{bucket}/in/empty.png").write(b"")
    return len(photos) + 2


def test_a_bucket_of_photos_has_the_same_rows_after_two_kills_as_after_none(
    cluster, tmp_path, shared_dir, s3_bucket
):
    count = upload_samples(shared_dir, s3_bucket)
    # So slow that few shards wait to be written together where a machine is slow to begin with it.
    killed = BucketJob(cluster, tmp_path, f"{s3_bucket}/in", f"{s3_bucket}/killed", seconds=1.5)
    first = killed.kill_after(1)
    second = killed.kill_after(first + 1)
    assert 0 < first < second < -(-count // shards.shard_size(count))
    killed.finish()
    whole = BucketJob(cluster, tmp_path, f"{s3_bucket}/in", f"{s3_bucket}/whole")
    whole.finish()
    assert killed.rows("labels") == whole.rows("labels")
    assert killed.rows("errors") == whole.rows("errors")
    labels = [row for rows in whole.rows("labels").values() for row in rows]
    errors = [row for rows in whole.rows("errors").values() for row in rows]
    assert len(labels) == count - 2
    assert {row["error_type"] for row in errors} == {"DamagedImage", "EmptyFile"}
