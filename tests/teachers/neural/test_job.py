"""Neural teachers of the registry through the job: tiny random networks, official names."""

import functools
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
from vqa_jax.teachers import cards, job, views
from vqa_jax.teachers.neural import dover, fast_vqa, load, minimalistic, weights
from vqa_jax.teachers.neural.convnext3d import ConvNext3dConfig
from vqa_jax.teachers.neural.swin2d import Swin2dConfig
from vqa_jax.teachers.neural.swin3d import Swin3dConfig

SWIN = Swin3dConfig(embed_dim=4, num_layers=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
CONVNEXT = ConvNext3dConfig(num_layers=(1, 1, 1, 1), dims=(4, 8, 8, 8))
FAST_VQA = fast_vqa.FastVqaConfig(SWIN, 4)
DOVER = dover.DoverConfig(SWIN, CONVNEXT, 4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Weights of tiny random networks under the official names, and loaders of that size."""
    for name, model, rules in (
        ("fast_vqa", fast_vqa.FastVqa(FAST_VQA, nnx.Rngs(0)), weights.FAST_VQA),
        ("dover", dover.Dover(DOVER, nnx.Rngs(1)), weights.DOVER),
    ):
        save_file(weights.official_state(model, rules), str(tmp_path / f"{name}.safetensors"))
    monkeypatch.setattr(
        weights, "load_fast_vqa", functools.partial(weights.load_fast_vqa, cfg=FAST_VQA)
    )
    monkeypatch.setattr(weights, "load_dover", functools.partial(weights.load_dover, cfg=DOVER))
    return str(tmp_path)


def test_scores_are_those_of_the_networks_on_the_views(shared, folder, tmp_path):
    names = ["fast_vqa", "dover", "dover_technical", "dover_aesthetic", "noise"]
    loaded = load.load_teachers(names, folder, batch_size=2, devices=jax.local_devices()[:2])
    clips = ("carphone_pristine.mp4", "bikes.mp4")
    videos = [job.Video(str(shared / "clips" / name), name) for name in clips]
    out = tmp_path / "out"
    found = job.run(videos, loaded, str(out), job.JobConfig(seed=5))
    assert found == job.TeacherOutcome(2, 0, 0)
    table = read_scores(out / "scores.csv")
    scores = dict(zip(table.teachers, table.scores.T, strict=True))
    row = list(table.videos).index(clips[0])

    info, seed = probe(videos[0].path), views.video_seed(5, f"0:{clips[0]}")
    looks = views.read_views(
        info,
        lambda info: {
            "four": views.fragment_view(info, seed, 4),
            "three": views.fragment_view(info, seed, 3),
            "spread": views.aesthetic_view(info, seed),
        },
    )
    looks = {name: x.reshape(-1, 32, 224, 224, 3) for name, x in looks.items()}
    fast = fast_vqa.FastVqa(FAST_VQA, nnx.Rngs(0))
    both = dover.Dover(DOVER, nnx.Rngs(1))
    raw = float(fast(looks["four"]).mean())
    technical = float(both.technical(looks["three"]).mean())
    aesthetic = float(both.aesthetic(looks["spread"]).mean())
    wanted = {
        "fast_vqa": fast_vqa.unit_score(raw),
        "dover_technical": technical,
        "dover_aesthetic": aesthetic,
        "dover": dover.FUSION(technical, aesthetic),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(
            scores[name][row], value, **TOLERANCES["scores_and_losses"], err_msg=name
        )


def test_fingerprint_follows_the_weights(folder):
    (before,) = load.load_teachers(["fast_vqa"], folder)
    model = fast_vqa.FastVqa(FAST_VQA, nnx.Rngs(2))
    state = weights.official_state(model, weights.FAST_VQA)
    save_file(state, f"{folder}/fast_vqa.safetensors")
    (after,) = load.load_teachers(["fast_vqa"], folder)
    assert before.fingerprint != after.fingerprint
    with pytest.raises(cards.TeacherError, match=r"minimalistic_vii\.safetensors"):
        load.load_teachers(["minimalistic_vii"], folder)


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
    looks = views.read_views(
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
