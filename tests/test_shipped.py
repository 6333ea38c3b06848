"""The student that comes with the package, on real clips: direction from file to score."""

import numpy as np
import pytest

from data_prep.simulators.encode import EncodeConfig, encode_rgb
from vqa_jax import loading
from vqa_jax.media import decode, probe
from vqa_jax.pairs import levels
from vqa_jax.scoring import predictor

CLIPS = ("bikes.mp4", "carphone_pristine.mp4")
FRAMES = 64


@pytest.fixture(scope="module")
def student() -> predictor.Predictor:
    """The shipped student, loaded once."""
    return loading.load()


@pytest.fixture(scope="module")
def copies(shared, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """Clip -> its first frames encoded nearly without loss, and at x265's CRF 48."""
    folder = tmp_path_factory.mktemp("copies")
    paths = {}
    for name in CLIPS:
        source = str(shared / "clips" / name)
        info = probe.probe(source)
        frames = decode.read_segment(source, 0, min(FRAMES, info.num_frames))
        paths[name] = (str(folder / f"good_{name}"), str(folder / f"bad_{name}"))
        for path, crf in zip(paths[name], (12, 48), strict=True):
            with open(path, "wb") as f:
                f.write(encode_rgb(frames, info.fps, EncodeConfig("h265", crf, "fast")))
    return paths


@pytest.mark.slow  # what trained weights say, which no other test may depend on
@pytest.mark.parametrize("name", CLIPS)
def test_a_heavily_compressed_copy_scores_lower(student, copies, name):
    good, bad = student.score(copies[name])
    assert good.error is None and bad.error is None
    assert bad.score < good.score


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_a_heavily_compressed_copy_is_called_worse_in_both_orders(student, copies, name):
    good, bad = (student.encode(path) for path in copies[name])
    second_is_better = levels.preference(student.engine.compare([(good, bad), (bad, good)]))
    assert second_is_better[0] < 0.5 < second_is_better[1]


@pytest.mark.slow
def test_scores_are_the_same_every_time(student, shared):
    clip = shared / "clips" / CLIPS[1]
    first, second = (student.score(clip) for _ in range(2))
    assert first.scale and first.model and first.error is None
    assert np.isfinite([first.score, first.std]).all() and first.std > 0
    assert first == second
