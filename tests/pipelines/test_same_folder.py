"""An output that is another folder on another node, as the folders of one machine stand for it."""

import pickle
import socket

import pytest

from pipelines import rows
from pipelines.commit import Commit
from pipelines.same_folder import marked
from pipelines.storage import locate
from pipelines.worker import Setup, train_on_worker
from tests.training import make_config

OTHER = f"is not the same folder on every node of the cluster, not on {socket.gethostname()}"


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_commit_on_a_node_with_another_folder_ends_the_job_and_writes_nothing(output):
    none = rows.LABELLED.empty_table()
    with marked(locate(str(output))) as marker:
        commit = pickle.loads(pickle.dumps(Commit(locate(str(output)), ["red"], {}, marker=marker)))
        assert not len(commit(none))
        output.rename(output.parent / "elsewhere")
        output.mkdir()
        with pytest.raises(ValueError, match=f"{output} {OTHER}"):
            commit(none)
    assert not list(output.iterdir())


def test_a_trainer_on_a_node_with_another_folder_refuses_to_start(output):
    place = locate(str(output))
    setup = Setup(config=make_config(), output=place, marker=place.at("none"))
    with pytest.raises(ValueError, match=OTHER):
        train_on_worker({"setup": setup})


def test_a_mark_does_not_count_and_is_gone_afterwards(output, s3_bucket):
    with marked(locate(str(output))) as marker:
        assert marker.exists()
        assert locate(str(output)).is_empty()
    assert not list(output.iterdir())
    with marked(locate(s3_bucket)) as marker:
        assert marker is None
