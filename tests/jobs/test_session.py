"""What every job shares."""

import pytest
import ray

from jobs.session import connect


def fail(words, calls):
    def init(*_, **__):
        calls.append(words)
        raise Exception(words)

    return init


@pytest.fixture
def no_cluster(monkeypatch):
    """No Ray is there, and none was asked for."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


def test_a_ray_that_does_not_start_in_time_ends_a_job_in_one_sentence(no_cluster, monkeypatch):
    calls = []
    slow = "The current node timed out during startup. This could happen because of load."
    monkeypatch.setattr(ray, "init", fail(slow, calls))
    with pytest.raises(SystemExit, match="error: Ray did not start in time"):
        connect()
    assert len(calls) == 1


def test_another_failure_of_ray_is_not_hidden(no_cluster, monkeypatch):
    monkeypatch.setattr(ray, "init", fail("no such GPU", []))
    with pytest.raises(Exception, match="no such GPU"):
        connect()
