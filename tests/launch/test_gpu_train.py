"""Training on a packed corpus."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.gpu_train import __main__ as front
from launch.gpu_train import balance, pack, run
from launch.gpu_train.packed import Packed
from tests.fixtures import cell_student, tiny_corpus
from tests.test_imports import ROOT
from vqa_jax.corpus import shards, store
from vqa_jax.jobs import files
from vqa_jax.models import prompt
from vqa_jax.settings import OptimConfig, SettingsError
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.training.input_pipeline import training_batches
from vqa_jax.weights import bundle

SPEC = cell_student.spec()
CONFIG = tiny_corpus.train_config(3, optim=OptimConfig(3, 1), trainable=(("llm/*", 1.0),))
WIDTH = SPEC.student.vision.embed_dim


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    """A corpus with made-up tokens: 4,128 numbers of any size, of which 20 directions vary."""
    root = tiny_corpus.write_corpus(str(tmp_path_factory.mktemp("packed") / "corpus"), 5, 1, 2)
    rng = np.random.default_rng(3)
    directions = rng.normal(size=(20, WIDTH)) * rng.uniform(0.01, 2, WIDTH)
    centre = rng.normal(size=WIDTH)
    path = os.path.join(root, "work", "tokens")

    def tokens(video: dict) -> dict:
        known = rng.normal(size=(2 if video["num_frames"] > 1 else 1, 4, 20))
        frames = (known @ directions + centre).astype(np.float16)
        told = {"tower": SPEC.tower, "preprocess": SPEC.preprocess.to_json()}
        return {**video, **told, "frames": frames}

    videos = store.RecordStore(root, "vqa_videos").records()
    shards.write_shard(path, "vqa_tokens", map(tokens, videos))
    shards.publish(root, "vqa_tokens", "vqa_tokens", {"train": [path]})
    files.write_json(os.path.join(root, store.TOKENS_MANIFEST), {"identity": {}})
    return root


@pytest.fixture(scope="module")
def packed(corpus, tmp_path_factory) -> Packed:
    path = str(tmp_path_factory.mktemp("file") / "packed.npz")
    facts = pack.pack(corpus, CONFIG, SPEC, path)
    assert facts["bytes"] == os.path.getsize(path) < pack.MOST_BYTES
    assert facts["kept"] > 0.999
    assert Packed.read(path).facts["directions"] == facts["directions"]
    return Packed.read(path)


def test_packed_arrays_give_the_batches_that_the_corpus_gives(corpus, packed):
    pairs = store.PairCorpus(corpus, ["vqa_pairs_1"], "train", SPEC.extractor, SPEC.tower)
    geometry = PromptGeometry(prompt.tiny_tokenizer(), SPEC.student.tokens_per_frame, "level")
    size, simulators = SPEC.preprocess.max_clips, SPEC.severity_simulators
    wanted = training_batches(pairs, CONFIG.input, geometry, simulators, size)
    found = run.batches(packed, geometry)
    for step in (0, 1, 30):
        one, other = wanted[step], found[step]
        assert one.keys() == other.keys()
        for name in one.keys() - {"frames", "motion"}:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        np.testing.assert_allclose(one["motion"], other["motion"], rtol=1e-3)
        shown = one["frame_mask"][..., None, None] > 0
        error = (one["frames"] - other["frames"]) * shown / packed.scale
        # A byte a coefficient, of a direction's largest one.
        assert np.abs(error).max() < 0.1 and np.abs(error).mean() < 0.02


def test_a_file_keeps_as_many_directions_as_fit(corpus, tmp_path):
    small, smaller = (
        pack.pack(corpus, CONFIG, SPEC, str(tmp_path / f"{most}.npz"), most)
        for most in (160_000, 120_000)
    )
    assert 0 < smaller["directions"] < small["directions"] < 20
    assert smaller["kept"] < small["kept"] < 1
    assert small["bytes"] <= 160_000 and smaller["bytes"] <= 120_000
    with pytest.raises(SettingsError, match="1000 are allowed"):
        pack.pack(corpus, CONFIG, SPEC, str(tmp_path / "none.npz"), 1000)
    own = dataclasses.replace(tiny_corpus.student_spec())
    with pytest.raises(SettingsError, match="trains its tower"):
        pack.pack(corpus, CONFIG, own, str(tmp_path / "none.npz"))


def test_weights_beyond_the_directions_are_taken_away():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.5, 2, WIDTH)
    rows = rng.normal(size=(3, WIDTH))
    params = {
        "vision": {"mean": jnp.ones(WIDTH)},
        "projector": {"w": jnp.asarray(rng.normal(size=(WIDTH, 2)), jnp.float32)},
        "llm": {"w": jnp.ones((4, 4))},
    }
    found = balance.within(params, rows, scale, SPEC)
    # A token, standardized, that lies along the directions, and one beside them.
    inside = rng.normal(size=3) @ rows / scale * balance.weights(SPEC)
    beside = rng.normal(size=WIDTH)
    basis = np.linalg.qr((rows / scale * balance.weights(SPEC)).T)[0]
    beside -= basis @ (basis.T @ beside)
    before, after = (np.asarray(p["projector"]["w"], np.float64) for p in (params, found))
    np.testing.assert_allclose(inside @ after, inside @ before, rtol=1e-4)
    np.testing.assert_allclose(beside @ after, 0, atol=1e-4)
    assert found["llm"]["w"] is params["llm"]["w"]
    assert found["vision"]["mean"] is params["vision"]["mean"]


_BLOCKED = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {front.NOT_NEEDED!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["launch.gpu_train", *sys.argv[1:]]
from launch.gpu_train import __main__ as front
from launch.gpu_train import run
from launch.gpu_train.packed import Packed
if len(sys.argv) > 1:
    sys.exit(front.main())
"""


def _blocked(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, "-c", _BLOCKED, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_training_imports_no_reader_of_videos_or_shards():
    done = _blocked()
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_student_is_trained_where_those_readers_are_missing(packed, tmp_path):
    out = str(tmp_path / "out")
    done = _blocked("train", "--packed", packed.root, "--out", out, "--seed", "1")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "out" / run.METRICS).read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3]
    spec = bundle.load_spec(os.path.join(out, "student"))
    assert spec == dataclasses.replace(SPEC, student=spec.student)
    told = json.loads((tmp_path / "out" / "student" / "student.json").read_text())
    assert told["facts"]["steps"] == told["facts"]["of"] == 3
    leaves = jax.tree.leaves(bundle.load_params(os.path.join(out, "student"), _student(spec)))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def _student(spec: bundle.StudentSpec):
    from vqa_jax.models.functional import FunctionalStudent

    return FunctionalStudent(spec.student)
