"""MinimalisticVQA: key frames and motion through the job, and the scale of its score."""

import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.benchmarks.score_tables import read_scores
from vqa_jax.media.probe import probe
from vqa_jax.motion import extractor as motion
from vqa_jax.motion import weights as slowfast
from vqa_jax.teachers import job, views
from vqa_jax.teachers.neural import load, minimalistic, weights
from vqa_jax.teachers.neural.swin2d import Swin2dConfig


@pytest.mark.slow
def test_minimalistic_takes_key_frames_and_motion(shared, tmp_path, monkeypatch):
    swin = Swin2dConfig(embed_dim=4, num_layers=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    shutil.copy(motion.TINY_WEIGHTS, tmp_path / "slowfast.safetensors")
    extractor = slowfast.load_features(motion.TINY_WEIGHTS)
    configs = {
        "VII": minimalistic.MinimalisticConfig(swin, 0, 4),
        "IX": minimalistic.MinimalisticConfig(swin, extractor.config.motion_dim, 4),
    }
    models = {}
    for name, config in configs.items():
        monkeypatch.setattr(minimalistic, name, config)
        models[name] = minimalistic.MinimalisticVqa(config, nnx.Rngs(3))
        state = weights.official_state(models[name], weights.MINIMALISTIC)
        save_file(state, str(tmp_path / f"minimalistic_{name.lower()}.safetensors"))
    names = ["minimalistic_vii", "minimalistic_ix"]
    loaded = load.load_teachers(names, str(tmp_path), 4, jax.local_devices()[:1])
    path = str(shared / "clips" / "carphone_pristine.mp4")
    looks, _ = views.read_views(
        probe(path),
        lambda info: {"frames": views.key_frame_view(info), "motion": views.motion_view(info)},
    )
    clips = looks["motion"].reshape(-1, 32, 224, 224, 3)
    wanted = [
        models["VII"](looks["frames"]).mean(),
        models["IX"](looks["frames"], extractor(clips)).mean(),
    ]
    video = job.Video(path, "clip.mp4")
    job.run([video], loaded, str(tmp_path / "out"))
    scores = read_scores(tmp_path / "out" / "scores.csv")
    assert scores.teachers == ("minimalistic_ix", "minimalistic_vii")
    np.testing.assert_allclose(scores.scores[0, ::-1], wanted, **TOLERANCES["scores_and_losses"])


def test_scales_of_scores():
    scores = minimalistic.logistic(np.array([-50.0, 3.0, 50.0]), (90.0, 10.0, 3.0, -0.5))
    np.testing.assert_allclose(scores, [10.0, 50.0, 90.0], **TOLERANCES["scores_and_losses"])
