"""The package's own names: what they bring, when, and that they are the shipped student's."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import vqa_jax
from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.media import decode, probe
from vqa_jax.motion import extractor

_IMPORTS = """
import sys
before = set(sys.modules)
import vqa_jax
vqa_jax.__version__, dir(vqa_jax)
heavy = {"jax", "numpy", "av", "flax"} & (set(sys.modules) - before)
assert not heavy, heavy
vqa_jax.ScoreConfig(both_orders=True)
assert "jax" not in sys.modules
"""


def test_importing_the_package_brings_nothing_else():
    subprocess.run([sys.executable, "-c", _IMPORTS], check=True)


def test_public_names_are_those_of_their_homes():
    assert {"load", "score", "compare", "Result", "Predictor", "AnchorSet", "ScoreConfig"} <= set(
        vqa_jax.__all__
    )
    assert set(vqa_jax.__all__) <= set(dir(vqa_jax))
    assert vqa_jax.load is loading.load and vqa_jax.score is loading.score
    for name in vqa_jax.__all__:
        assert getattr(vqa_jax, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = vqa_jax.nothing


@pytest.fixture
def shipped(known, tmp_path, monkeypatch):
    """The corpus's student in place of the shipped one."""
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    folder = str(shutil.copytree(known, tmp_path / "shipped"))
    monkeypatch.setattr(loading, "SHIPPED", folder)
    return loading.load()


def test_score_and_compare_are_the_shipped_students(shipped, tmp_path):
    paths = [tiny_corpus.write_video(str(tmp_path / f"{i}.mp4"), i) for i in (0, 3)]
    found = vqa_jax.score(paths)
    assert [r.score for r in found] == [r.score for r in shipped.score(paths)]
    assert vqa_jax.score(paths[1]).score == pytest.approx(found[1].score, abs=1e-6)
    frames = np.stack([frame for _, frame in decode.iter_frames(paths[0])])
    again = vqa_jax.score(frames, fps=probe.probe(paths[0]).fps)
    assert isinstance(again, vqa_jax.Result)
    assert again.score == pytest.approx(found[0].score, abs=1e-6)
    assert vqa_jax.compare(*paths) == shipped.compare(*paths)
