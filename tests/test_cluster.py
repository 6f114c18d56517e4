"""cluster.yaml: Ray's own validation, AWS's own parameter names, and what the jobs rely on."""

import re
from pathlib import Path

import pytest
import yaml

from jobs import session

ROOT = Path(__file__).resolve().parents[1]


def load():
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture
def cluster():
    return load()


def problems(config):
    """What Ray says about a cluster file: the first complaint, or None."""
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(config))
    except (ValidationError, ValueError) as error:
        return str(error)
    return None


def instance_problems(node_config):
    """What AWS's own description of RunInstances says about a node's parameters."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    service = ServiceModel(Loader().load_service_model("ec2", "service-2"))
    request = service.operation_model("RunInstances").input_shape
    report = ParamValidator().validate({**node_config, "MinCount": 1, "MaxCount": 1}, request)
    return report.generate_report()


def test_ray_accepts_the_cluster_file(cluster):
    assert problems(cluster) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda cluster: cluster.update(max_worker=3),
        lambda cluster: cluster.update(head_node_type="nobody"),
        lambda cluster: cluster["available_node_types"]["gpu"]["resources"].update(GPU="one"),
    ],
    ids=["unknown key", "unknown head", "resource that is no number"],
)
def test_the_validation_would_notice(cluster, spoil):
    spoil(cluster)
    assert problems(cluster)


def test_aws_knows_every_parameter_of_every_node(cluster):
    for node_type in cluster["available_node_types"].values():
        assert not instance_problems(node_type["node_config"])
    assert "InstanceTyp" in instance_problems({"InstanceTyp": "g6.xlarge"})


def test_the_head_does_no_work_and_workers_come_only_when_asked_for(cluster):
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0}
    workers = {name: node for name, node in types.items() if name != cluster["head_node_type"]}
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in workers.values())
    assert sum(node["max_workers"] for node in workers.values()) <= cluster["max_workers"]
    assert [name for name, node in workers.items() if node["resources"].get("GPU")] == ["gpu"]
    assert 0 < cluster["idle_timeout_minutes"] <= 15


def test_images_carry_the_pinned_ray_and_a_supported_python(cluster):
    pinned = re.search(
        r"^ray==([\d.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    ).group(1)
    images = {
        cluster["docker"]["image"],
        cluster["available_node_types"]["gpu"]["docker"]["worker_image"],
    }
    assert images == {f"rayproject/ray:{pinned}-py311-{kind}" for kind in ("cpu", "gpu")}


def test_processes_wait_for_work_as_long_as_those_of_a_local_ray(cluster):
    wanted = f"--env=RAY_idle_worker_killing_time_threshold_ms={session.IDLE_MILLISECONDS}"
    assert wanted in cluster["docker"]["run_options"]


def test_every_file_that_is_copied_exists_and_is_installed(cluster):
    for remote, local in cluster["file_mounts"].items():
        assert (ROOT / local).is_file()
        assert any(remote in command for command in cluster["setup_commands"])
