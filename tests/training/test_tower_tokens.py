"""Tokens of a frozen tower for a whole corpus, and a student that trains on them."""

import dataclasses
import os
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data_prep.verify import verify
from tests.fixtures import cell_student, tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store
from vqa_jax.corpus.sidecar_job import Outcome
from vqa_jax.devices import sharding
from vqa_jax.jobs import files
from vqa_jax.models.cell_tower import stage_balance
from vqa_jax.models.efficientnet_lite import EfficientNetLiteConfig
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.settings import SettingsError
from vqa_jax.training import checkpoint, start, step, tower_tokens, train
from vqa_jax.weights import bundle, towers
from vqa_jax.weights.reader import Checkpoint

SPEC = cell_student.spec()
VIDEOS = 5 * (1 + tiny_corpus.NUM_LEVELS)
TRAINABLE = ("vision_projector/*", "motion_projector/*", "newline", "llm/*", "severity_*")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> str:
    """A corpus of fitted frames; read only."""
    return cell_student.write_corpus(str(tmp_path_factory.mktemp("fitted")))


class FailureError(Exception):
    """Stands for a process that dies."""


class BrightnessTower:
    """Instead of the network: some numbers of a video's frames, in tokens of its sizes."""

    def __init__(self, student, params):
        assert params["vision"]["network"]["head"]["bias"].shape == (1280,)
        self._shape = (student.cfg.tokens_per_frame, student.cfg.vision.embed_dim)

    def __call__(self, videos):
        return [np.stack([self.of(frame) for frame in video]) for video in videos]

    def of(self, frame):
        """float16 [P, W]: brightness, a number that never changes, and one that hardly does."""
        rng = np.random.default_rng(int(frame.sum()))
        tokens = rng.normal(size=self._shape) + frame.mean() / 50
        tokens[:, 1], tokens[:, 2] = 2.0, rng.normal(size=self._shape[0]) * 1e-2
        return tokens.astype(np.float16)


@pytest.fixture
def data(fitted, tmp_path) -> str:
    return str(shutil.copytree(fitted, tmp_path / "corpus"))


@pytest.fixture
def stub(monkeypatch) -> None:
    monkeypatch.setattr(tower_tokens.FrozenTower, "of_student", BrightnessTower)


def test_records_are_the_videos_with_tokens_in_place_of_frames(data, stub):
    assert tower_tokens.run(data, SPEC) == Outcome(VIDEOS, 0)
    tower = BrightnessTower(FunctionalStudent(SPEC.student), towers.load(_student(), SPEC.tower))
    for split, count in cell_student.SHARDS.items():
        videos = store.RecordStore(data, "vqa_videos", split=split)
        tokens = store.RecordStore(data, "vqa_tokens", split=split)
        assert tokens.ids == videos.ids
        assert len(records.dataset_shards(data, "vqa_tokens", split)) == count
        for key in tokens.ids:
            record, video = tokens[key], videos[key]
            np.testing.assert_array_equal(record["frames"], tower([video["frames"]])[0])
            assert record["frames"].dtype == np.float16 and record["tower"] == SPEC.tower
            kept = record.keys() - {"frames", "tower"}
            assert len(kept) == 7 and all(record[name] == video[name] for name in kept)


def _student() -> FunctionalStudent:
    return FunctionalStudent(SPEC.student)


def test_two_processes_write_what_one_writes_and_a_killed_one_is_resumed(
    data, stub, tmp_path, monkeypatch
):
    alone = str(shutil.copytree(data, tmp_path / "alone"))
    tower_tokens.run(alone, SPEC)
    assert tower_tokens.run(data, SPEC, process=1, processes=2).missing == 2
    real = BrightnessTower.__call__
    calls = []

    def dies(self, videos):
        calls.append(1)
        if len(calls) == 2:
            raise FailureError
        return real(self, videos)

    with monkeypatch.context() as patch, pytest.raises(FailureError):
        patch.setattr(BrightnessTower, "__call__", dies)
        tower_tokens.run(data, SPEC, process=0, processes=2)
    assert not os.path.exists(os.path.join(data, store.TOKENS_MANIFEST))
    calls.clear()
    assert tower_tokens.run(data, SPEC, process=0, processes=2) == Outcome(VIDEOS, 0)
    one, other = (files.read_json(os.path.join(d, store.TOKENS_MANIFEST)) for d in (data, alone))
    assert one == other and one["identity"]["tower"] == SPEC.tower
    hashes = [
        [files.file_sha256(path) for path in records.dataset_shards(d, "vqa_tokens")]
        for d in (data, alone)
    ]
    assert hashes[0] == hashes[1] and len(hashes[0]) == sum(cell_student.SHARDS.values())


def test_students_and_corpora_that_do_not_fit_are_refused(fitted, corpus):
    with pytest.raises(bundle.BundleError, match="tiny: its tower is trained"):
        tower_tokens.run(corpus, tiny_corpus.student_spec())
    pre = dataclasses.replace(SPEC.preprocess, max_key_frames=1)
    with pytest.raises(files.CorpusError, match="prepared for another view than the student's"):
        tower_tokens.run(fitted, dataclasses.replace(SPEC, preprocess=pre))


def test_missing_and_foreign_tokens_name_the_command(data, stub):
    with pytest.raises(
        files.CorpusError, match=r"no tokens of a frozen tower: run .*vqa_jax tokens"
    ):
        store.VideoStore(data, SPEC.extractor, SPEC.tower)
    tower_tokens.run(data, SPEC)
    key = tiny_corpus.video_id(0, 0)
    video, motion = store.VideoStore(data, SPEC.extractor, SPEC.tower)[key]
    assert video["frames"].shape == (2, 4, 4128) and motion.shape[1] == tiny_corpus.MOTION_DIM
    frames = store.VideoStore(data, SPEC.extractor)[key][0]["frames"]
    assert frames.dtype == np.uint8
    with pytest.raises(files.CorpusError, match=r"tokens of tower .* wants 0123.*tokens` again"):
        store.VideoStore(data, SPEC.extractor, "0123")[key]


def test_fresh_students_standardize_tokens_over_the_corpus(data, stub):
    tower_tokens.run(data, SPEC)
    student = _student()
    corpus = store.PairCorpus(data, ("vqa_pairs_1",), "train", SPEC.extractor, SPEC.tower)
    fresh = cell_student.params(student, tower=False)
    begun = tower_tokens.start(fresh, student, SPEC.tower, corpus, student.abstract())
    assert begun["llm"] is fresh["llm"]
    used = {pair[side] for pair in corpus.pairs for side in ("first_id", "second_id")}
    tokens = np.concatenate([corpus.videos[key][0]["frames"] for key in sorted(used)])
    wide = tokens.reshape(-1, tokens.shape[-1]).astype(np.float64)
    vision = begun["vision"]
    np.testing.assert_allclose(vision["mean"], wide.mean(0), **TOLERANCES["direct_sum"])
    expected = wide.std(0)
    least = 1e-3 * np.median(expected)
    assert expected[1] == 0 and vision["scale"][1] == pytest.approx(least, rel=1e-3)
    expected = np.maximum(expected, vision["scale"].min())
    np.testing.assert_allclose(vision["scale"], expected, **TOLERANCES["direct_sum"])
    # No number is lost in another: but for the stages' weights, all but the constant one have
    # deviation 1.
    seen = student.bind({"vision": vision}).vision.standardized(tokens.astype(np.float32))
    deviations = np.asarray(seen).reshape(-1, tokens.shape[-1]).std(0)
    deviations /= np.tile(stage_balance(EfficientNetLiteConfig(0).widths), 2)
    assert np.abs(deviations[[0, 2, 3]] - 1).max() < 0.05 and deviations[1] < 0.05


def test_a_student_learns_from_tokens_and_its_tower_stays_as_it_was(data, stub, tmp_path):
    """One short run: what is trained moves, the bundle is complete without the tower."""
    tower_tokens.run(data, SPEC)
    config = tiny_corpus.train_config(
        8,
        trainable=tuple((part, 1.0) for part in TRAINABLE),
        checkpoint_every=8,
        token_dropout=0.2,
    )
    with pytest.raises(SettingsError, match="trains its tower"):
        train.train(config, tiny_corpus.student_spec(), data, str(tmp_path / "none"))
    folder = train.train(config, SPEC, data, str(tmp_path / "run"))
    losses = tiny_corpus.losses(str(tmp_path / "run"))
    values = [losses[number] for number in sorted(losses)]
    assert len(values) == 8 and np.isfinite(values).all()
    assert bundle.load_spec(folder) == SPEC
    stored = Checkpoint(os.path.join(folder, bundle.WEIGHTS_FILE)).shapes
    assert {name for name in stored if name.startswith("vision/")} == {
        "vision/mean",
        "vision/scale",
    }
    student = _student()
    params = bundle.load_params(folder, student)
    tower = towers.load(student, SPEC.tower)
    jax.tree.map(
        np.testing.assert_array_equal, params["vision"]["network"], tower["vision"]["network"]
    )
    corpus = store.PairCorpus(data, ("vqa_pairs_1",), "train", SPEC.extractor, SPEC.tower)
    parts = ("vision_projector", "newline")
    begun = jax.jit(lambda: {part: student.init(config.seed)[part] for part in parts})()
    for part in parts:
        moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), params[part], begun[part])
        assert max(jax.tree.leaves(moved)) > 1e-5
    first = tower_tokens.start(params, student, SPEC.tower, corpus, student.abstract())["vision"]
    for name in ("mean", "scale"):  # frozen, kept in two bytes
        np.testing.assert_allclose(params["vision"][name], first[name], rtol=2**-8)
    # The next iteration starts where this one ended.
    config = dataclasses.replace(config, init_from=folder)
    mesh, steps = sharding.make_mesh((1, 1, 8)), step.StepConfig.of(config, (3, 4, 5, 6, 7), 0)
    with checkpoint.Checkpointer(str(tmp_path / "next"), {"of": "a test"}) as checkpoints:
        state = start.Start(config, SPEC, student, steps, mesh, corpus).state(checkpoints)
    found, told = bundle.flatten(state["params"]["llm"]), bundle.flatten(params["llm"])
    for name, value in told.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_verification_reads_tokens_too(data, stub):
    """As it reads a corpus whose frames are fitted."""
    tower_tokens.run(data, SPEC)
    path = os.path.join(data, records.MANIFEST)
    counts = {"inputs": 5, "sources": 5, "quarantined": 0, "videos": VIDEOS}
    files.write_json(path, {**files.read_json(path), "counts": counts})
    with open(os.path.join(data, records.QUARANTINE), "w", encoding="utf-8") as table:
        table.write("path,stage,reason\n")
    verify.verify(data)
    manifest = os.path.join(data, store.TOKENS_MANIFEST)
    told = files.read_json(manifest)
    files.write_json(manifest, {**told, "identity": {**told["identity"], "tower": "0123"}})
    with pytest.raises(verify.DamagedCorpusError, match="is of another tower"):
        verify.verify(data)


def test_another_tower_lies_beside_its_tokens(data, stub, tmp_path):
    arrays = load_file(towers.shipped_path(0))
    arrays["head/bias"] = arrays["head/bias"] + np.ones_like(arrays["head/bias"])
    other = str(tmp_path / "other.safetensors")
    save_file(arrays, other)
    spec = dataclasses.replace(SPEC, tower=towers.fingerprint(other))
    tower_tokens.run(data, spec, other)
    assert towers.fingerprint(os.path.join(data, towers.TOWER_FILE)) == spec.tower
    student = _student()
    corpus = store.PairCorpus(data, ("vqa_pairs_1",), "train", spec.extractor, spec.tower)
    own = cell_student.params(student, tower=False)
    begun = tower_tokens.start(own, student, spec.tower, corpus, student.abstract())
    found = begun["vision"]["network"]["head"]["bias"]
    np.testing.assert_array_equal(found, arrays["head/bias"].astype(np.float32))
