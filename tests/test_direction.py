"""Direction, end to end: worse videos are called worse and score lower.

Each check is also run on a mutated program (weights of two levels exchanged, newline token dropped,
keys rotated by one position too many, matrix transposed) and must then fail.
"""

import dataclasses
import itertools

import numpy as np
import pytest

from data_prep.simulators.encode import EncodeConfig, encode_decode
from tests.fixtures import tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import loading
from vqa_jax.corpus import pair_shards, video_table
from vqa_jax.corpus import shards as records
from vqa_jax.corpus.store import PairCorpus
from vqa_jax.corpus.video_table import FIELDS, write_video_table
from vqa_jax.media.crops import scoring_groups
from vqa_jax.models import prompt, qwen2
from vqa_jax.motion import extractor
from vqa_jax.pairs import levels
from vqa_jax.pairs.simulators import all_simulator_pairs
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.anchors import AnchorError
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.scoring.judge import Judge
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.training.input_pipeline import training_batches
from vqa_jax.weights.bundle import make_tokenizer

NO_MOTION = np.zeros((1, tiny_corpus.MOTION_DIM), np.float32)


# --- the checks -------------------------------------------------------------------------------


def _logits(student, first, second):
    """Level logits of two severity levels of an unseen source."""
    frames = [
        scoring_groups(tiny_corpus.tiles(77, level), tiny_corpus.PREPROCESS, 2)[0]
        for level in (first, second)
    ]
    return student.level_logits(tuple(frames), (NO_MOTION, NO_MOTION))


def check_preferences(far_down, down, up, far_up):
    """Level logits of pairs (0, 3), (0, 1), (1, 0), (3, 0): the second is preferred ever more."""
    far_down, down, up, far_up = map(levels.preference, (far_down, down, up, far_up))
    assert far_down < 0.125 < down < 0.375
    assert 0.625 < up < 0.875 < far_up


def check_scores(student):
    """Scores fall with every step of severity, and the anchors stand in their own order."""
    judge = Judge(student.engine, student.judge.anchors, student.fingerprint)
    assert judge.scale.anchor_q[-1] - judge.scale.anchor_q[0] > 1  # worst to best
    found = []
    for level in range(tiny_corpus.NUM_LEVELS + 1):
        frames = scoring_groups(tiny_corpus.tiles(77, level), tiny_corpus.PREPROCESS, 2)
        video = next(student.engine.encode([VideoInput(frames, NO_MOTION)]))
        found.append(judge.score([video])[0].score)
    assert (np.diff([s.score for s in found]) < 0).all()
    assert found[0].score - found[-1].score > 50  # of 100 between the outer anchors


def check_golden(folder):
    """A published pair has its published level logits."""
    golden = np.load(folder / "io.npz")
    found = loading.load(folder).level_logits(
        (golden["frames_0"], golden["frames_1"]),
        (golden["motion_0"], golden["motion_1"]),
        golden["input_ids"].tolist(),
        golden["level_ids"].tolist(),
    )
    np.testing.assert_allclose(found, golden["level_logits"], **TOLERANCES["level_logits"])


# --- the program passes them ------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(known):
    return loading.load(known)


@pytest.fixture(scope="module")
def four_logits(student):
    return [_logits(student, *pair) for pair in ((0, 3), (0, 1), (1, 0), (3, 0))]


def test_student_calls_worse_what_is_worse_and_mirrors_when_swapped(four_logits):
    words = [levels.LEVELS[int(x.argmax())] for x in four_logits]
    assert words == ["inferior", "worse", "better", "superior"]
    assert [levels.mirror(w) for w in words] == words[::-1]
    check_preferences(*four_logits)


def test_student_scores_worse_videos_lower(student):
    check_scores(student)


def test_published_student_is_reproduced(shared):
    check_golden(shared / "golden/lmm_pair")


def test_darker_files_score_lower(student, tmp_path, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    paths = [tiny_corpus.write_video(str(tmp_path / f"{k}.mp4"), k) for k in range(4)]
    scores = [r.score for r in student.score(paths)]
    assert (np.diff(scores) < 0).all()


def _photograph_clip(num_frames=30, size=(192, 256)):
    from skimage import data

    picture = data.astronaut()[60:, 120:]  # from the face on
    height, width = size
    return np.stack([picture[t : t + height, 2 * t : 2 * t + width] for t in range(num_frames)])


def test_label_of_a_clip_and_its_crf_48_copy_through_records(tmp_path):
    """Files -> frames -> records -> batch -> the word that the student is taught."""
    clip = _photograph_clip(8, (96, 128))
    copy = np.stack(list(encode_decode(clip, 30.0, EncodeConfig("h264", 48, "ultrafast"))))
    data = tiny_corpus.write_corpus(str(tmp_path), num_train=1, num_heldout=1)
    rows = []
    for level, frames in ((0, clip), (3, copy)):
        record = tiny_corpus.video_record(50, level)
        record["frames"] = np.stack([frames[t, 50:70, 70:90] for t in (0, 2, 4, 6)])
        rows.append(record)
    _replace_corpus(data, rows)
    corpus = PairCorpus(data, ["vqa_pairs_1"], "train", tiny_corpus.EXTRACTOR)
    tokenizer = make_tokenizer(tiny_corpus.student_spec())
    geometry = PromptGeometry(tokenizer, 1, "sentence")
    config = tiny_corpus.input_config(same_crops=1.0)
    batch = training_batches(corpus, config, geometry, [tiny_corpus.SIMULATOR], 2)[0]
    detail = np.abs(np.diff(batch["frames"].astype(float), axis=4)).mean((2, 3, 4, 5))
    copy_second = detail[:, 0] > detail[:, 1]  # compression takes detail away
    assert 0 < copy_second.sum() < len(copy_second)
    for second_is_worse, ids in zip(copy_second, batch["answer_ids"], strict=True):
        word = "inferior" if second_is_worse else "superior"
        assert tokenizer.decode(ids).startswith(f"The quality of the second video is {word} to")


def _replace_corpus(data, videos):
    """Makes a corpus hold these videos and all pairs of them."""
    table = []
    shards = {"vqa_videos": videos}
    shards["vqa_motion"] = [
        {"video_id": v["video_id"], "extractor": tiny_corpus.EXTRACTOR, "features": NO_MOTION}
        for v in videos
    ]
    for kind, rows in shards.items():
        path = f"{data}/work/replaced-{kind}"
        records.write_shard(path, kind, rows)
        records.publish(data, kind, kind, {"train": [path]})
    for video in videos:
        row = {"split": "train", "scores": {}, "notes": "", "vmaf": None, **video}
        table.append({name: row[name] for name in (*FIELDS.names, "scores")})
    write_video_table(data, table)
    pairs = all_simulator_pairs(video_table.simulated_sets(table, "train"))
    assert [{p.first_id, p.second_id} for p in pairs] == [{v["video_id"] for v in videos}]
    pair_shards.write(data, 1, {"train": pairs}, 1, {"made": "by a test"})


# --- and mutated programs do not --------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), itertools.combinations(range(5), 2))
def test_exchanged_level_weights_are_noticed(four_logits, monkeypatch, one, other):
    weights = list(levels.LEVEL_WEIGHTS)
    weights[one], weights[other] = weights[other], weights[one]
    monkeypatch.setattr(levels, "LEVEL_WEIGHTS", tuple(weights))
    with pytest.raises(AssertionError):
        check_preferences(*four_logits)


def _transposed_videos(monkeypatch):
    real = thurstone.preference_matrix
    monkeypatch.setattr(
        thurstone, "preference_matrix", lambda *x: np.swapaxes(real(*x), -1, -2).copy()
    )


def _transposed_anchors(monkeypatch):
    real = thurstone.average_orders
    monkeypatch.setattr(thurstone, "average_orders", lambda x: real(x).T)


def _both_transposed(monkeypatch):
    _transposed_videos(monkeypatch)
    _transposed_anchors(monkeypatch)


@pytest.mark.parametrize("mutate", [_transposed_videos, _transposed_anchors, _both_transposed])
def test_transposed_matrix_is_noticed(student, monkeypatch, mutate):
    mutate(monkeypatch)
    with pytest.raises((AssertionError, AnchorError)):
        check_scores(student)


def test_exchanged_videos_are_noticed(student, monkeypatch):
    real = student.engine.compare
    monkeypatch.setattr(student.engine, "compare", lambda pairs: real([(b, a) for a, b in pairs]))
    with pytest.raises((AssertionError, AnchorError)):
        check_scores(student)


def test_dropped_newline_is_noticed(shared, monkeypatch):
    real = prompt.layout

    def without_newlines(ids, frames, motion_tokens, bank, predict=None):
        laid = real(ids, frames, motion_tokens, bank, predict)
        newline = [-(1 + bank.frame_tokens + video * bank.stride) for video in range(2)]
        kept = ~np.isin(laid.tokens, newline)
        assert (~kept).sum() == 2
        return dataclasses.replace(laid, tokens=laid.tokens[kept], answer_pos=laid.answer_pos - 2)

    monkeypatch.setattr(prompt, "layout", without_newlines)
    with pytest.raises(AssertionError):
        check_golden(shared / "golden/lmm_pair")


def test_keys_rotated_too_far_are_noticed(shared, monkeypatch):
    real = qwen2.rotate
    calls = itertools.count()  # query, key, query, key, ...

    def rotate(x, positions, theta):
        return real(x, positions + next(calls) % 2, theta)

    monkeypatch.setattr(qwen2, "rotate", rotate)
    with pytest.raises(AssertionError):
        check_golden(shared / "golden/lmm_pair")
    assert next(calls) >= 2
