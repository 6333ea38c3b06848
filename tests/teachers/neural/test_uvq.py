"""UVQ 1.5: published sizes, what its parts do by hand, and the job."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.benchmarks.score_tables import read_scores
from vqa_jax.media.probe import probe
from vqa_jax.models.efficientnet_lite import BlockConfig
from vqa_jax.teachers import job, looks, views
from vqa_jax.teachers.neural import load, uvq, weights
from vqa_jax.teachers.neural.uvq import Uvq, UvqConfig
from vqa_jax.weights.named import parameters
from vqa_jax.weights.reader import WeightsError

# Four halvings after the stem's: maps are as large as published.
TINY = UvqConfig(
    blocks=tuple(BlockConfig(3, 2, 1, 2, 2) for _ in range(4)), stem=2, channels=2, hidden=3
)


def test_published_towers_and_their_maps():
    cfg = UvqConfig()
    assert [b.d_out for b in cfg.blocks] == [
        *(16, 24, 24, 40, 40, 80, 80, 80),
        *(112, 112, 112, 192, 192, 192, 192, 320),
    ]
    frames = jax.ShapeDtypeStruct((2, *looks.UVQ_FRAME, 3), np.uint8)
    content, distortion = nnx.eval_shape(lambda x: Uvq(TINY, nnx.Rngs(0)).maps(x), frames)
    assert content.shape == (2, 8, 8, 2) and distortion.shape == (2, 24, 24, 2)


def test_means_of_places_and_sizes_that_cannot_be_cut():
    maps = np.arange(2 * 4 * 8 * 3.0).reshape(2, 4, 8, 3)
    found = uvq.mean_of_places(maps, 2)
    np.testing.assert_allclose(
        found[1, 0, 1], maps[1, :2, 4:].mean((0, 1)), **TOLERANCES["exact_metric"]
    )
    with pytest.raises(ValueError, match="cannot be averaged"):
        uvq.mean_of_places(maps, 3)
    model = nnx.eval_shape(lambda: Uvq(TINY, nnx.Rngs(0)))
    with pytest.raises(ValueError, match="cannot be cut in 3 parts"):
        model.distortion_map(jax.ShapeDtypeStruct((1, 1080, 1000, 3), np.float32))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Weights of a tiny network, and a loader of that size."""
    rng = np.random.default_rng(0)
    leaves = parameters(nnx.eval_shape(lambda: Uvq(TINY, nnx.Rngs(0))))
    shapes = {name: leaf.get_value().shape for name, leaf in leaves.items()}
    stored = {k: rng.normal(0, 0.5, shape).astype(np.float32) for k, shape in shapes.items()}
    save_file(stored, str(tmp_path / "uvq.safetensors"))
    monkeypatch.setattr(weights, "load_uvq", functools.partial(weights.load_uvq, cfg=TINY))
    return tmp_path


def test_scores_are_means_over_seconds(shared, folder):
    (teacher,) = load.load_teachers(["uvq"], str(folder), 2, jax.local_devices()[:1])
    path = str(shared / "clips" / "carphone_pristine.mp4")
    found = job.run([job.Video(path, "clip.mp4")], [teacher], str(folder / "out"))
    assert found == job.TeacherOutcome(1, 0, 0)
    (row,) = read_scores(folder / "out" / "scores.csv").scores
    look, _ = views.read_views(
        probe(path), lambda info: {"sampled": views.sampled_view(info, looks.UVQ_FRAME)}
    )
    (((name,), network),) = teacher.networks
    wanted = network(look[name])
    assert len(wanted) == len(look[name]) > 1 and 1 < wanted.min() <= wanted.max() < 5
    np.testing.assert_allclose(row, [wanted.mean()], **TOLERANCES["scores_and_losses"])


def test_files_of_another_network_are_told(folder):
    save_file({"content/stem/kernel": np.zeros(3, np.float32)}, str(folder / "uvq.safetensors"))
    with pytest.raises(WeightsError, match=r"launch/convert_uvq\.py") as caught:
        weights.load_uvq(folder / "uvq.safetensors")
    assert "distortion/head/bias" in caught.value.problems["missing"]
    assert caught.value.problems["misshapen"]
