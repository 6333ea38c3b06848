"""Where a student computes: the rule in numbers, meshes by size, and the same scores on each."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.fixtures import tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import loading
from vqa_jax.devices import sharding
from vqa_jax.models import int8
from vqa_jax.models.presets import PRESETS
from vqa_jax.motion import extractor
from vqa_jax.scoring import placement
from vqa_jax.scoring.placement import Need
from vqa_jax.settings import SettingsError
from vqa_jax.weights import bundle

GB = 10**9


@pytest.mark.parametrize(
    ("weights", "cache", "devices", "memory", "sizes"),
    [
        (5 * GB, 4 * GB, 8, 16 * GB, (8, 1, 1)),  # 9 of 9.6
        (5 * GB, 5 * GB, 8, 16 * GB, (4, 2, 1)),  # the cache is whole on each
        (16 * GB, GB, 8, 16 * GB, (4, 2, 1)),
        (30 * GB, 0, 6, 16 * GB, (1, 6, 1)),  # 4 and 5 do not divide 6
        (900 * GB, 0, 4, 16 * GB, (1, 4, 1)),  # no number is enough
        (GB, 0, 1, 16 * GB, (1, 1, 1)),
    ],
)
def test_as_few_devices_hold_a_student_together_as_fit_it(weights, cache, devices, memory, sizes):
    assert placement.sizes_by_rule(Need(weights, cache), devices, memory) == sizes


def test_a_published_student_splits_over_v5e_and_not_over_v6e():
    cfg = dataclasses.replace(PRESETS["ov_7b"], param_dtype="bfloat16")
    wanted = placement.need(cfg, None, None, None)
    assert wanted.weights == pytest.approx(16e9, rel=0.05) and wanted.cache == 0
    assert placement.sizes_by_rule(wanted, 8, 16e9) == (4, 2, 1)
    assert placement.sizes_by_rule(wanted, 8, 32e9) == (8, 1, 1)


@pytest.mark.parametrize("cache_dtype", [None, "int8"])
def test_need_counts_weights_and_the_anchors_keys_and_values(known, cache_dtype):
    student = loading.load(known, cache_dtype=cache_dtype)
    engine = student.judge.engine
    spec, tokenizer = student.spec, student.tokenizer
    wanted = placement.need(spec.student, spec, tokenizer, student.judge.anchors, cache_dtype)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(engine._params))
    kept = engine._cache.keys, engine._cache.values
    cached = sum(leaf.nbytes for leaf in jax.tree.leaves(kept))
    assert len(jax.tree.leaves(kept)) == (4 if cache_dtype else 2)
    assert wanted.weights == held
    # A bound: of a video of the most tokens and all of the text, which is long for this student.
    assert cached <= wanted.cache <= 3 * cached


def test_meshes_are_of_local_devices_and_one_device_has_none():
    wanted = Need(1)
    assert placement.execution(None, "auto", wanted).mesh is None  # a CPU's are one processor
    assert placement.execution((1, 1, 1), "auto", wanted).mesh is None
    run = placement.execution((2, 1, 2), "xla", wanted, 6)
    assert run.devices == tuple(jax.devices()[:4]) and (run.ways, run.attention) == (2, "xla")
    assert placement.execution((-1, 2, 1), "auto", wanted).mesh.shape["data"] == 4
    given = sharding.make_mesh((8, 1, 1))
    assert placement.execution(given, "auto", wanted).mesh is given


@pytest.mark.parametrize(
    ("mesh", "batch", "message"),
    [
        ((3, 3, 1), 0, "needs 9 devices.*8 devices are at hand"),
        ((4, 1), 0, "data, fsdp and tensor"),
        ((0, 1, 1), 0, "data, fsdp and tensor"),
        ((4, 1, 1), 6, "6 does not divide over 4"),
    ],
)
def test_impossible_meshes_are_refused(mesh, batch, message):
    with pytest.raises(SettingsError, match=message):
        placement.execution(mesh, "auto", Need(1), batch)


# One by default: each compiles the whole of scoring anew.
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 2, 2),
        *(
            pytest.param(x, marks=pytest.mark.slow)
            for x in ((4, 1, 1), (1, 4, 1), (1, 1, 4), (3, 1, 1))
        ),
    ],
)
def test_a_mesh_gives_the_scores_of_one_device(sizes, known, tmp_path, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    paths = [tiny_corpus.write_video(str(tmp_path / f"{k}.mp4"), k) for k in (0, 2)]
    alone, shared = loading.load(known), loading.load(known, mesh=sizes)
    for leaf, like in zip(
        *map(jax.tree.leaves, (shared._params, shared._student.placed(shared._run))), strict=True
    ):
        assert leaf.sharding == like.sharding
    found, wanted = ([r.score for r in student.score_many(paths)] for student in (shared, alone))
    np.testing.assert_allclose(found, wanted, **TOLERANCES["score_on_a_mesh"])
    assert shared.fingerprint == alone.fingerprint


def test_another_dtype_is_told_by_the_fingerprint_and_wrong_settings_are_refused(known):
    student = loading.load(known, dtype="bfloat16", batch_size=4)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(student._params)} == {"bfloat16"}
    assert student.fingerprint == f"{bundle.fingerprint(known)}-bfloat16"
    assert student.engine.batch_size == 4
    assert loading.load(known, dtype="float32").fingerprint == bundle.fingerprint(known)
    for wrong in (
        {"dtype": "int4"},
        {"batch_size": 0},
        {"mesh": (9, 1, 1)},
        {"attention": "x"},
        {"cache_dtype": "int4"},
    ):
        with pytest.raises(SettingsError):
            loading.load(known, **wrong)


def test_int8_scores_like_the_student_itself(known, tmp_path, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    plain, student = loading.load(known), loading.load(known, dtype="int8")
    assert student.fingerprint == f"{plain.fingerprint}-int8"
    for part, weight, inputs in (("llm", "wo", 2), ("vision", "w_up", 1)):
        own = student._params[part]["layers"]
        wanted = int8.quantized_weight(plain._params[part]["layers"][weight], inputs)
        np.testing.assert_array_equal(own[weight], wanted[0])
        np.testing.assert_allclose(own[int8.steps_of(weight)], wanted[1], rtol=1e-6)
    cached = loading.load(known, cache_dtype="int8")
    assert cached.fingerprint == f"{plain.fingerprint}-cache_int8"
    levels = [tiny_corpus.write_video(str(tmp_path / f"{k}.mp4"), k) for k in (0, 1, 2)]
    found, in_cache, wanted = (
        [r.score for r in s.score_many(levels)] for s in (student, cached, plain)
    )
    np.testing.assert_allclose(found, wanted, **TOLERANCES["int8_score"])
    np.testing.assert_allclose(in_cache, wanted, **TOLERANCES["int8_score"])
