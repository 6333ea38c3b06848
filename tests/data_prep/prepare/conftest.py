"""Corpora that the preparation's tests share."""

import pathlib
import shutil

import pytest

from data_prep.labels.pairs import label_pairs
from data_prep.prepare.job import build
from tests.fixtures import prep_corpus


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    return prep_corpus.write_videos(tmp_path_factory.mktemp("in") / "my videos")


@pytest.fixture(scope="session")
def corpus(videos, tmp_path_factory):
    """A finished corpus with pairs; tests do not change it."""
    data = tmp_path_factory.mktemp("out") / "corpus"
    build(str(videos), str(data), prep_corpus.config())
    label_pairs(str(data), prep_corpus.PAIRS)
    return data


@pytest.fixture
def damaged(corpus, tmp_path):
    """A copy of the corpus to be damaged."""
    return pathlib.Path(shutil.copytree(corpus, tmp_path / "corpus"))
