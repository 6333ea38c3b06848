"""Evaluation against hand-made cases, brute force, and a student that knows its corpus."""

import csv
import itertools
import os
import shutil

import numpy as np
import pytest
from scipy import stats

from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.corpus import video_table
from vqa_jax.corpus.video_table import read_video_table, write_video_table
from vqa_jax.jobs import files
from vqa_jax.loop import evaluate
from vqa_jax.pairs import levels
from vqa_jax.pairs import levels as levels_lib
from vqa_jax.pairs.simulators import SimulatedSet, all_simulator_pairs, simulator_pair
from vqa_jax.scoring.judge import Judge


def _set(source, simulator, count):
    ids = tuple((k, f"{source}-000-{simulator if k else 'source'}-{k}") for k in range(count))
    return SimulatedSet(source, simulator, ids)


def _logits(preference):
    """Level logits with the wanted preference: mass on the two outer levels only."""
    p = np.clip(np.asarray(preference, float), 1e-6, 1 - 1e-6)
    logits = np.full((*p.shape, 5), -50.0)
    logits[..., 0], logits[..., 4] = np.log(1 - p), np.log(p)
    return logits


def test_accuracy_is_a_macro_average_and_ties_are_wrong():
    blur, noise = _set("a", "blur", 3), _set("b-c", "noise", 2)
    pairs = [
        simulator_pair(blur, 0, 1),  # worse
        simulator_pair(blur, 2, 0),  # superior
        simulator_pair(blur, 2, 1),  # better
        simulator_pair(blur, 0, 2),  # inferior
        simulator_pair(noise, 1, 0),  # better
    ]
    #        right, right, wrong, tie, right
    forward = _logits([0.2, 0.9, 0.3, 0.5, 0.9])
    backward = _logits([0.8, 0.1, 0.6, 0.5, 0.6])
    levels_of = {v: k for group in (blur, noise) for k, v in group.video_ids}
    found = evaluate.summarize(pairs, levels_of, forward, backward, [])
    assert found["by_simulator"]["blur"]["accuracy"] == 0.5
    assert found["by_simulator"]["noise"]["accuracy"] == 1.0
    assert found["accuracy"] == 0.75  # not 3 of 5
    assert found["num_pairs"] == 5 and found["srcc"] is None
    assert found["by_simulator"]["blur"]["by_distance"] == {
        "1": {"accuracy": 0.5, "pairs": 2},
        "2": {"accuracy": 0.5, "pairs": 2},
    }
    assert found["by_simulator"]["blur"]["by_levels"]["1-2"] == {"accuracy": 0.0, "pairs": 1}
    assert found["accuracy_one_order"] == pytest.approx(3 / 5)
    # Both orders say "the second" in the last pair, "the first" in the fourth (no more than half).
    assert found["self_contradiction"] == pytest.approx(2 / 5)
    confusion = np.array(found["confusion"])
    assert confusion.sum() == 5
    assert confusion[levels.LEVELS.index("worse")].tolist() == [1, 0, 0, 0, 0]
    assert confusion[levels.LEVELS.index("better")].tolist() == [1, 0, 0, 0, 1]
    assert confusion[levels.LEVELS.index("superior")].tolist() == [0, 0, 0, 0, 1]


def test_both_orders_decide_together():
    group = _set("a", "blur", 2)
    pair = [simulator_pair(group, 0, 1)]  # the second is worse
    levels_of = {v: k for k, v in group.video_ids}

    def accuracy(forward, backward):
        found = evaluate.summarize(pair, levels_of, _logits([forward]), _logits([backward]), [])
        return found["accuracy"]

    assert accuracy(0.6, 0.9) == 1.0  # 0.6 for the second, but 0.9 against it when swapped
    assert accuracy(0.4, 0.2) == 0.0
    assert accuracy(0.5, 0.5) == 0.0
    order = levels_lib.order_consistent(_logits([0.6]), _logits([0.9]))
    np.testing.assert_allclose(order, [0.35], atol=1e-5)


def test_macro_accuracy_against_brute_force():
    rng = np.random.default_rng(3)
    groups = [_set(f"s{s}", name, 4) for s in range(5) for name in ("blur", "noise", "jitter")]
    pairs = all_simulator_pairs(groups)
    forward, backward = rng.normal(size=(2, len(pairs), 5))
    levels_of = {v: k for group in groups for k, v in group.video_ids}
    found = evaluate.summarize(pairs, levels_of, forward, backward, [])
    weights = np.array([0, 0.25, 0.5, 0.75, 1])
    right = {}
    for pair, f, b in zip(pairs, forward, backward, strict=True):
        p = (np.exp(f) / np.exp(f).sum()) @ weights
        r = (np.exp(b) / np.exp(b).sum()) @ weights
        second_wins = p + (1 - r) > 1
        truth = levels_of[pair.second_id] < levels_of[pair.first_id]
        right.setdefault(pair.label_source, []).append(second_wins == truth)
    expected = np.mean([np.mean(v) for v in right.values()])
    assert found["accuracy"] == pytest.approx(expected)
    low, high = found["accuracy_ci"]
    assert low < found["accuracy"] < high


def test_interval_is_over_sources():
    """Ten pairs of one source that are all wrong are one bad draw, not ten."""
    groups = [_set(f"s-{s}", "blur", 5) for s in range(4)]
    pairs = all_simulator_pairs(groups)
    levels_of = {v: k for group in groups for k, v in group.video_ids}
    good = np.array([levels_of[p.second_id] < levels_of[p.first_id] for p in pairs], float)
    bad_source = np.array([p.first_id.startswith("s-0") for p in pairs])
    preference = np.where(bad_source, 1 - good, good)
    found = evaluate.summarize(pairs, levels_of, _logits(preference), _logits(1 - preference), [])
    assert found["accuracy"] == 0.75
    draws = [np.mean([s > 0 for s in c]) for c in itertools.product(range(4), repeat=4)]
    assert found["accuracy_ci"] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.01)


def _row(source, simulator, level, score, segment=0):
    return {
        "source_id": source,
        "segment": segment,
        "simulator": simulator,
        "level": level,
        "score": score,
    }


def test_srcc_is_negative_for_a_student_that_scores_worse_levels_lower():
    rows = [_row("a", "source", 0, 90), _row("b", "source", 0, 80)]
    rows += [_row("a", "blur", k, 90 - 10 * k) for k in (1, 2, 3)]
    rows += [_row("b", "blur", k, s) for k, s in ((1, 85), (2, 70), (3, 75))]
    rows += [_row("a", "noise", k, 90 + k) for k in (1, 2)]
    rows += [_row("b", "noise", 1, 10)]  # one level and the source: no rank correlation
    found = evaluate.severity_srcc(rows)
    second = stats.spearmanr([0, 1, 2, 3], [80, 85, 70, 75]).statistic
    assert found["blur"] == pytest.approx((-1 + second) / 2)
    assert found["noise"] == pytest.approx(1.0)
    constant = [_row("a", "source", 0, 5), *(_row("a", "blur", k, 5) for k in (1, 2))]
    assert evaluate.severity_srcc(constant) == {"blur": 0.0}


class ComparedError(Exception):
    """The student was asked again."""


@pytest.fixture(scope="module")
def evaluated(known, corpus, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("evaluated"))
    student = loading.load(known)
    found = evaluate.evaluate(student.judge, corpus, out)
    return student, out, found


def test_knowing_student_orders_unseen_sources(evaluated):
    _, _, found = evaluated
    assert found["num_pairs"] == 2 * 6  # two sources, four levels
    assert found["accuracy"] == 1
    assert found["srcc"] == pytest.approx(-1)


def test_files_hold_only_heldout_videos_and_agree_with_the_summary(evaluated, corpus):
    student, out, found = evaluated
    assert files.read_json(os.path.join(out, "evaluation.json")) == found
    with open(os.path.join(out, "pairs.csv"), encoding="utf-8") as f:
        pairs = list(csv.DictReader(f))
    with open(os.path.join(out, "scores.csv"), encoding="utf-8") as f:
        scores = list(csv.DictReader(f))
    split = {r["video_id"]: r["split"] for r in read_video_table(corpus)}
    named = {r["first_id"] for r in pairs} | {r["video_id"] for r in scores}
    assert {split[v] for v in named} == {"heldout"}
    assert len(scores) == 8 and len(pairs) == found["num_pairs"]
    assert np.mean([int(r["correct"]) for r in pairs]) == found["accuracy"]  # one simulator
    for row in pairs:
        better = float(row["preference"]) > 0.5
        truth = int(row["second_level"]) < int(row["first_level"])
        assert int(row["correct"]) == (better == truth)
    assert found["student"] == student.fingerprint


def test_finished_evaluation_is_kept_and_another_student_redone(
    evaluated, corpus, tmp_path, monkeypatch
):
    student, out, found = evaluated
    copy = str(shutil.copytree(out, tmp_path / "out"))

    another = Judge(student.engine, student.judge.anchors, "another")

    def compare(pairs):
        raise ComparedError

    monkeypatch.setattr(student.engine, "compare", compare)
    again = evaluate.evaluate(student.judge, corpus, copy)
    assert again == found
    with pytest.raises(ComparedError):
        evaluate.evaluate(another, corpus, copy)


def test_corpus_without_heldout_pairs_is_refused(evaluated, tmp_path):
    student = evaluated[0]
    data = tiny_corpus.write_corpus(str(tmp_path / "data"), num_train=1, num_heldout=1)
    table = read_video_table(data)
    assert video_table.simulated_sets(table, "heldout")
    write_video_table(data, [r for r in table if r["split"] == "train"])
    with pytest.raises(files.CorpusError, match="held-out"):
        evaluate.evaluate(student.judge, data, str(tmp_path / "out"))
