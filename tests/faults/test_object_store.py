"""Every job's command on places in a real S3 server: what it makes is what it makes locally.

Every run has a folder of copies of its own, as on another machine.
"""

import dataclasses
import itertools
import re
import shutil
import time

import numpy as np
import pytest

from tests.fixtures import whole_jobs

KILLS = 2
URL = "s3://bucket"
_PLACE = re.compile(r"(?<= )(out|student|corpus|foreign)(?=[ /]|$)")  # of an option's value


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return whole_jobs.make_world(tmp_path_factory.mktemp("store") / "world")


def _remote(job):
    """The same job on URLs; videos and configurations are local."""
    return dataclasses.replace(job, argv=_PLACE.sub(rf"{URL}/\1", job.argv))


def _lay_out(s3, job, world):
    """Makes the bucket what it is before the job."""
    s3.clear()
    for name in ("student", "corpus", "foreign"):
        s3.upload(world / name, name)
    if job.start:
        s3.upload(world / job.start, "out")


def _contents(s3, job, world):
    """As `whole_jobs.contents`, of what is in the bucket."""
    shutil.rmtree(world / "out", ignore_errors=True)
    for name, data in s3.read("out/").items():
        path = world / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return whole_jobs.contents(job, world)


def _machines(s3, world):
    """The environment of one new machine after the other."""
    for number in itertools.count():
        shutil.rmtree(world / f"stage{number - 1}", ignore_errors=True)
        yield {**s3.environment(), "VQA_JAX_STAGE": str(world / f"stage{number}")}


@pytest.mark.slow
@pytest.mark.parametrize("name", whole_jobs.JOBS)
def test_a_job_on_an_object_store_makes_what_it_makes_locally(world, s3, name):
    """Killed at random moments, it goes on on another machine; once finished, it stays so."""
    job = whole_jobs.JOBS[name]
    whole_jobs.lay_out(job, world)
    began = time.monotonic()
    status, said = whole_jobs.run(job, world)
    seconds = time.monotonic() - began
    assert status == 0, said
    wanted = whole_jobs.contents(job, world)
    rng = np.random.default_rng(len(name))
    _lay_out(s3, job, world)
    machines = _machines(s3, world)
    for _ in range(KILLS):
        process = whole_jobs.start(_remote(job), world, next(machines))
        process.join(rng.uniform(seconds / 2, 1.5 * seconds))
        process.kill()
        process.join()
    for _ in range(2):
        environment = next(machines)
        status, said = whole_jobs.run(_remote(job), world, environment)
        assert status == 0, said
        assert environment["VQA_JAX_STAGE"] not in said  # nothing names a copy
        assert _contents(s3, job, world) == wanted
