"""Exports: each loads again to the bit, scores as the student does, and refuses damage."""

import os

import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.exchange import export, exported, llava_folder
from vqa_jax.exchange.sizes import student_config
from vqa_jax.exchange.student_io import load_params
from vqa_jax.jobs import files
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.weights import bundle, companions
from vqa_jax.weights.flaw_head import FlawHead


def wanted(folder):
    """What an export of `folder` must hold: merged, without the auxiliary head."""
    spec = bundle.load_spec(folder)
    student = FunctionalStudent(spec.student)
    params = student.merge(bundle.load_params(folder, student))
    return {
        path: np.asarray(value)
        for path, value in traverse_util.flatten_dict(params).items()
        if not path[0].startswith("severity_")
    }


def assert_same(params, want):
    found = {k: np.asarray(v) for k, v in traverse_util.flatten_dict(params).items()}
    assert found.keys() == want.keys()
    for path, value in want.items():
        assert found[path].dtype == value.dtype
        np.testing.assert_array_equal(found[path], value, err_msg=str(path))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("orbax", "hf"),
        ("safetensors", "hf"),
        ("safetensors", "original"),
        pytest.param("safetensors", "decoder", marks=pytest.mark.slow),
    ],
)
def test_parameters_come_back_to_the_bit(untrained, tmp_path, form, names):
    out, spec = str(tmp_path / "out"), bundle.load_spec(untrained)
    export.export(untrained, out, form, names)
    assert_same(exported.load_params(exported.read(out)), wanted(untrained))
    head = FlawHead.of(bundle.load_params(untrained, FunctionalStudent(spec.student)), spec)
    np.testing.assert_array_equal(FlawHead.beside(out).kernel, head.kernel)
    if names == "decoder":
        assert_same(load_params(out, exported.read(out).spec.student), wanted(untrained))
    elif form == "safetensors":  # also without the manifest, by what the files themselves say
        cfg = student_config(out)
        assert cfg.motion_scale == 3.0 and cfg.motion_dim == tiny_corpus.MOTION_DIM
        assert_same(load_params(out), wanted(untrained))
        others = load_file(os.path.join(out, llava_folder.NAMES[names].model))
        assert not any("slowfast" in key for key in others)
    if form == "orbax":  # once: it is the sum of the additions that changes rounding
        loaded, before = loading.load(out), loading.load(untrained)
        np.testing.assert_array_equal(loaded.flaw_head.bias, before.flaw_head.bias)
        frames = [tiny_corpus.tiles(0, level)[:1, 2:18, 2:18] for level in (0, 3)]
        features = [np.ones((1, tiny_corpus.MOTION_DIM), np.float32)] * 2
        found, want = (p.level_logits(frames, features) for p in (loaded, before))
        np.testing.assert_allclose(found, want, atol=1e-4)
        assert loaded.fingerprint == before.fingerprint


def test_an_export_is_replaced_whole_and_nothing_else_is_touched(untrained, tmp_path):
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_text("mine")
    export.export(untrained, str(out), "safetensors")
    (out / "notes.txt").write_text("mine")
    export.export(untrained, str(out), "orbax")
    kept = sorted(p.name for p in out.glob("*.safetensors*"))
    assert kept == [companions.HEAD_FILE, exported.SELFTEST]
    assert not (out / "config.json").exists() and (out / "notes.txt").read_text() == "mine"
    exported.load_params(exported.read(str(out)))
    # A list that names what lies elsewhere is believed in nothing.
    manifest = str(out / exported.MANIFEST)
    facts = files.read_json(manifest)
    facts["files"]["../victim"] = files.file_sha256(str(victim))
    files.write_json(manifest, facts)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(files.CorpusError, match=r"'\.\./victim', which is not in it"):
        export.export(untrained, str(out), "safetensors")
    assert victim.read_text() == "mine"
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["student.json", "config.json", "manifest.json"])
def test_formats_do_not_mix_in_a_folder(untrained, tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(exported.ExportError, match="name another folder"):
        export.export(untrained, str(tmp_path), "orbax")
    assert sorted(os.listdir(tmp_path)) == [".lock", name]


def test_a_failed_export_leaves_the_one_before(untrained, tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    export.export(untrained, out, "safetensors")
    before = sorted(os.listdir(out))
    monkeypatch.setattr(
        exported, "level_logits", lambda *_, **__: np.full((1, 5), np.nan, np.float32)
    )
    with pytest.raises(exported.ExportError, match="self-test"):
        export.export(untrained, out, "orbax")
    monkeypatch.undo()
    assert sorted(os.listdir(out)) == before
    exported.load_params(exported.read(out))
