"""A finished run that the tests of training share."""

import os

import pytest

from tests.fixtures.tiny_run import CONFIG, SPEC
from vqa_jax.training import train


@pytest.fixture(scope="session")
def finished(corpus, tmp_path_factory):
    """Work folder of an uninterrupted run."""
    workdir = str(tmp_path_factory.mktemp("finished"))
    assert train.train(CONFIG, SPEC, corpus, workdir) == os.path.join(workdir, "student")
    return workdir
