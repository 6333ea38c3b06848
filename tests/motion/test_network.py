"""Fast pathway: convolutions against direct sums, loading, batching of the extractor."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.motion import extractor as motion
from vqa_jax.motion import network, weights
from vqa_jax.weights.reader import WeightsError


def conv3d(x, kernel, stride, pad):
    """Direct 3D convolution of [B, T, H, W, C], one tap at a time."""
    x = np.pad(x, [(0, 0), *[(p, p) for p in pad], (0, 0)])
    sizes = [(x.shape[i + 1] - kernel.shape[i]) // stride[i] + 1 for i in range(3)]
    out = np.zeros((len(x), *sizes, kernel.shape[-1]))
    for tap in np.ndindex(kernel.shape[:3]):
        where = [slice(t, t + s * n, s) for t, s, n in zip(tap, stride, sizes, strict=True)]
        out += x[:, *where] @ kernel[tap]
    return out


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
@pytest.mark.parametrize("width", [3, 8])
def test_stem_is_the_strided_3d_convolution(size, width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, *size, 3)).astype(np.float32)
    kernel = rng.normal(size=(5, 7, 7, 3, width)).astype(np.float32)
    want = conv3d(x, kernel, (1, 2, 2), (2, 3, 3))
    np.testing.assert_allclose(network._stem_conv(x, kernel), want, **TOLERANCES["motion"])


def test_block_convolutions_are_3d_convolutions():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 5, 7, 6, 4)).astype(np.float32)
    temporal = rng.normal(size=(3, 4, 5)).astype(np.float32)
    spatial = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
    want = conv3d(x, temporal[:, None, None], (1, 1, 1), (1, 0, 0))
    np.testing.assert_allclose(network._temporal_conv(x, temporal), want, **TOLERANCES["motion"])
    for stride in (1, 2):
        want = conv3d(x, spatial[None], (1, stride, stride), (0, 1, 1))
        got = network._spatial_conv(jnp.asarray(x), spatial, stride)
        np.testing.assert_allclose(got, want, **TOLERANCES["motion"])


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_max_pool_is_the_windowed_maximum(size):
    x = np.random.default_rng(2).uniform(size=(1, 2, *size, 3)).astype(np.float32)
    want = jax.lax.reduce_window(
        x,
        0.0,
        jax.lax.max,
        (1, 1, 3, 3, 1),
        (1, 1, 2, 2, 1),
        [(0, 0), (0, 0), *[(1, 1)] * 2, (0, 0)],
    )
    np.testing.assert_array_equal(network._max_pool(jnp.asarray(x)), want)


def test_full_size_pathway_has_the_published_shape():
    cfg = network.FastPathwayConfig()
    model = nnx.eval_shape(lambda: network.FastPathway(cfg, nnx.Rngs(0)))
    clips = jax.ShapeDtypeStruct((2, 32, 224, 224, 3), np.uint8)
    outputs = nnx.eval_shape(lambda model, clips: model.stage_outputs(clips), model, clips)
    assert cfg.motion_dim == 256
    assert [out.shape[2:] for out in outputs] == [
        (56, 56, 8),
        (56, 56, 32),
        (28, 28, 64),
        (14, 14, 128),
        (7, 7, 256),
    ]
    assert all(out.shape[:2] == (2, 32) for out in outputs)


@pytest.fixture(scope="module")
def tensors():
    """pytorchvideo-named random weights of width 1, made without compiling an initialiser."""
    cfg = network.FastPathwayConfig(stem_width=1)
    model = nnx.eval_shape(lambda: network.FastPathway(cfg, nnx.Rngs(0)))
    rng = np.random.default_rng(3)
    shapes = {path: leaf.shape for path, leaf in weights._flat_state(model).items()}
    values = {path: rng.uniform(0.1, 1, shape) for path, shape in shapes.items()}
    return weights.rules.to_foreign(values)


def test_export_is_the_inverse_of_load(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    back = weights.export_pathway(weights.load_features(tmp_path / "w.safetensors").model)
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value)


def test_load_lists_every_wrong_key(tensors, tmp_path):
    broken = dict(tensors)
    fast = "blocks.3.multipathway_blocks.1.res_blocks.5.branch2"
    del broken[f"{fast}.conv_a.weight"]
    broken[f"{fast}.norm_b.weight"] = np.ones(7, np.float32)
    broken["blocks.1.multipathway_blocks.1.res_blocks.3.branch2.conv_a.weight"] = np.ones(1)
    save_file(broken, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as error:
        weights.load_features(tmp_path / "w.safetensors")
    assert "w.safetensors" in str(error.value)
    assert error.value.problems == {
        "missing": [f"{fast}.conv_a.weight"],
        "unexpected": ["blocks.1.multipathway_blocks.1.res_blocks.3.branch2.conv_a.weight"],
        "misshapen": [f"{fast}.norm_b.weight: (7,) instead of (4,)"],
    }


def test_load_ignores_what_the_motion_feature_does_not_depend_on(tensors, tmp_path):
    extra = {
        "blocks.0.multipathway_blocks.0.conv.weight": np.ones((8, 3, 1, 7, 7), np.float32),
        "blocks.2.multipathway_fusion.norm.bias": np.ones(4, np.float32),
        "blocks.6.proj.weight": np.ones((4, 4), np.float32),
        "blocks.0.multipathway_blocks.1.norm.num_batches_tracked": np.ones(1, np.int64),
    }
    save_file(tensors | extra, tmp_path / "w.safetensors")
    assert weights.load_features(tmp_path / "w.safetensors").config.stem_width == 1


def test_load_without_a_stem_says_what_to_give(tmp_path):
    save_file({"x": np.ones(1, np.float32)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w.safetensors: (.|\n)*blocks\.0\.(.|\n)*convert_slow"):
        weights.load_features(tmp_path / "w.safetensors")


def test_extractor_batches_and_repeats_give_the_same_features(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    extractor = motion.load_extractor(tmp_path / "w.safetensors", batch_size=2)
    rng = np.random.default_rng(4)
    clips = rng.integers(0, 256, (3, 4, 16, 16, 3), dtype=np.uint8)
    features = extractor(clips[[0, 1, 1, 2, 1]])
    assert features.shape == (5, extractor.motion_dim) and features.dtype == np.float32
    np.testing.assert_array_equal(features[1], features[4])
    # Each clip alone, padded with zeros to the same batch: neighbours have no influence.
    alone = np.concatenate([extractor(clip[None]) for clip in clips])
    np.testing.assert_allclose(features[[0, 1, 3]], alone, **TOLERANCES["motion"])
    assert np.ptp(alone, axis=0).max() > 0.01
    assert extractor(clips[:0]).shape == (0, extractor.motion_dim)


def test_fingerprint_follows_weights_and_clip_geometry(tensors, tmp_path):
    save_file(tensors, tmp_path / "a.safetensors")
    save_file(
        tensors | {"blocks.0.multipathway_blocks.1.norm.bias": np.ones(1, np.float32)},
        tmp_path / "b.safetensors",
    )
    a, b = (motion.load_extractor(tmp_path / f"{name}.safetensors") for name in "ab")
    pre = Preprocess(motion_size=56)
    other_size = dataclasses.replace(pre, motion_size=64)
    other_frames = dataclasses.replace(pre, max_key_frames=4)
    assert len({a.fingerprint(pre), b.fingerprint(pre), a.fingerprint(other_size)}) == 3
    assert a.fingerprint(pre) == a.fingerprint(other_frames)


def test_missing_weights_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: no motion weights"):
        motion.load_extractor(tmp_path / "none.safetensors")


def test_wrong_clips_are_refused(tensors, tmp_path):
    save_file(tensors, tmp_path / "w.safetensors")
    features = weights.load_features(tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"uint8 \[M,K,H,W,3\]"):
        features(np.zeros((1, 4, 16, 16, 3), np.float32))


def test_shipped_extractor_sees_jitter():
    """Features of shaken clips of one scene lie on a line from still to strongly shaken."""
    rng = np.random.default_rng(5)
    scene = np.kron(rng.integers(0, 256, (24, 24, 3)), np.ones((6, 6, 1))).astype(np.uint8)
    strengths = (0, 2, 8)
    clips = np.zeros((3, 32, 56, 56, 3), np.uint8)
    for clip, strength in zip(clips, strengths, strict=True):
        for frame in clip:
            y, x = rng.integers(0, strength + 1, 2)
            frame[:] = scene[y : y + 112 : 2, x : x + 112 : 2]
    still, mild, strong = motion.load_extractor(batch_size=3)(clips)
    direction = (strong - still) / np.linalg.norm(strong - still)
    assert 0.1 < (mild - still) @ direction < (strong - still) @ direction
