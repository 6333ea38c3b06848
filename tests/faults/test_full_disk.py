"""Every job on a disk that fills: one line, nothing lost, and the same command goes on later."""

import pathlib
import subprocess

import pytest

from tests.fixtures import whole_jobs

SIZE = 128 << 20  # holds what any job writes
ROOMS = (0.2, 0.7)  # of what the job writes, which a disk still has


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A world whose `out` is a small disk."""
    made = whole_jobs.make_world(tmp_path_factory.mktemp("disk") / "world")
    out = str(made / "out")
    pathlib.Path(out).mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", out]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    yield made
    subprocess.run(["umount", out], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", whole_jobs.JOBS)
def test_a_full_disk_is_one_line_and_loses_nothing(world, name):
    job = whole_jobs.JOBS[name]
    whole_jobs.lay_out(job, world)
    before, taken = whole_jobs.contents(job, world), whole_jobs.used(world / "out")
    status, said = whole_jobs.run(job, world)
    assert status == 0, said
    wanted, written = whole_jobs.contents(job, world), whole_jobs.used(world / "out") - taken
    for room in ROOMS:
        whole_jobs.lay_out(job, world)
        filler = world / "out" / "filler"
        filler.write_bytes(bytes(whole_jobs.free(world / "out") - int(room * written)))
        status, said = whole_jobs.run(job, world)
        *_, last = said.splitlines()
        assert status == 1 and last.startswith("error: "), said
        assert "No space left on device" in last and "Traceback" not in said, said
        found = whole_jobs.contents(job, world)
        assert {k: found.get(k) for k in before} == before  # an input is as it was
        filler.unlink()
        status, said = whole_jobs.run(job, world)
        assert status == 0, said
        assert whole_jobs.contents(job, world) == wanted
