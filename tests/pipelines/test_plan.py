"""What `label` checks before it starts, beyond the flags one by one."""

import pytest

from pipelines import outputs, shards
from pipelines.plan import LabelConfig, check_gpus, make_plan
from pipelines.storage import locate
from tests.fakes import write_photos


@pytest.fixture
def planned(tmp_path, random_checkpoint):
    """Plans a job over six photos; begins an output where it is told to."""
    write_photos(tmp_path / "photos", 6)

    def plan(begin=False, **options):
        config = LabelConfig(
            images=str(tmp_path / "photos"),
            output=str(tmp_path / "out"),
            classes=["red", "green"],
            model=str(random_checkpoint),
            **options,
        )
        made = make_plan(config)
        if begin:
            shards.write_manifest(made.output, made.manifest)
            identity = vars(made.identity)
            outputs.write_run(made.output, {"status": outputs.RUNNING, "identity": identity})
        return made

    return plan


def test_a_limit_bounds_what_was_begun_and_what_is_new(planned):
    assert planned(begin=True, limit=3).num_images == 3
    assert planned(limit=3).num_images == 3
    assert planned(limit=5).num_images == 5
    assert planned().num_images == 6


def test_a_limit_under_what_was_begun_is_refused(planned):
    planned(begin=True)
    with pytest.raises(ValueError, match="begun with 6 images, more than --limit 2"):
        planned(limit=2)


def test_new_images_do_not_push_an_output_over_its_limit(planned, tmp_path):
    begun = planned(begin=True, limit=3)
    (tmp_path / "photos" / "aaa.png").write_bytes(b"sorted first")
    assert planned(limit=3).manifest.equals(begun.manifest)


def test_images_that_do_not_exist_are_said_before_the_output_is_looked_at(planned, tmp_path):
    planned(begin=True)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="there is nothing at"):
        planned()


def test_a_damaged_run_file_is_said_and_can_be_overwritten(planned, tmp_path):
    planned(begin=True)
    locate(str(tmp_path / "out")).at(outputs.RUN_FILE).write(b'{"format": "sed-la')
    with pytest.raises(ValueError, match=r"is damaged .* --overwrite to start from nothing"):
        planned()
    assert planned(overwrite=True).num_images == 6


@pytest.mark.parametrize("gpus", [float("nan"), float("inf"), -0.5, 1.5])
def test_a_worker_has_a_fraction_of_a_gpu_or_whole_ones(gpus):
    with pytest.raises(ValueError, match="--gpus-per-worker"):
        check_gpus(gpus)
