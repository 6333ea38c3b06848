"""One compilation of every step, and a finished run, that the tests of training share."""

import os

import jax
import orbax.checkpoint as ocp
import pytest

from tests.fixtures.tiny_run import CONFIG, SPEC
from vqa_jax.training import step, train


@pytest.fixture(scope="package", autouse=True)
def _one_program_a_step():
    """Runs of the same student, settings and devices share a step: a file compiles it once."""
    make, made = step.make_train_step, {}

    def shared(student, config, mesh):
        key = (student.cfg, config, mesh)
        if key not in made:
            made[key] = make(student, config, mesh)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "make_train_step", shared)
        yield


@pytest.fixture(scope="package", autouse=True)
def _checkpoints_are_written_as_on_gpus():
    """Of an array that every device holds, one writes all: eight slices are a program each."""
    handler = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    before = ocp.type_handlers.get_type_handler(jax.Array)
    ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
    yield
    ocp.type_handlers.register_type_handler(jax.Array, before, override=True)


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    """Work folder of an uninterrupted run."""
    workdir = str(tmp_path_factory.mktemp("finished"))
    assert train.train(CONFIG, SPEC, corpus, workdir) == os.path.join(workdir, "student")
    return workdir
