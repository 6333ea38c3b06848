"""Kill -9 of every job's command at random moments: the same command ends with the same bytes."""

import time

import pytest

from tests.fixtures import whole_jobs

KILLS = 20


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return whole_jobs.make_world(tmp_path_factory.mktemp("kill") / "world")


@pytest.mark.slow
@pytest.mark.parametrize("name", whole_jobs.JOBS)
def test_kill_9_of_a_command(world, name):
    job = whole_jobs.JOBS[name]
    for _ in range(2):  # the first time programs are compiled
        whole_jobs.lay_out(job, world)
        began = time.monotonic()
        status, said = whole_jobs.run(job, world)
        seconds = time.monotonic() - began
        assert status == 0, said
    wanted = whole_jobs.contents(job, world)
    assert wanted
    whole_jobs.killed(job, world, wanted, seconds, KILLS, seed=len(name))
