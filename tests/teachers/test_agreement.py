"""Teachers as an ensemble: labels, agreement, odd ones, and the precision on real scores."""

import itertools

import numpy as np
import pytest
from scipy import stats

from vqa_jax.benchmarks.score_tables import read_human_scores, read_scores
from vqa_jax.pairs import levels
from vqa_jax.teachers import agreement


def _set(scores, mos=None, name="set", higher=None):
    scores = np.asarray(scores, float)
    teachers = [f"t{j}" for j in range(scores.shape[1])]
    videos = [f"v{k}" for k in range(len(scores))]
    mos = None if mos is None else np.asarray(mos, float)
    return agreement.ScoredSet(
        name, videos, teachers, higher or [True] * len(teachers), scores, mos
    )


def _opinions(videos=400, noise=(0.3, 0.4, 0.5), seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=videos)
    return truth, truth[:, None] + rng.normal(size=(videos, len(noise))) * noise


def dover(shared, name):
    path = shared / "benchmarks" / "dover" / f"{name}.csv"
    table, mos = read_scores(path), read_human_scores(path)
    return agreement.ScoredSet(
        name,
        list(table.videos),
        table.teachers,
        table.higher_is_better,
        table.scores,
        np.array([mos[video] for video in table.videos]),
    )


def test_precision_is_the_count_over_all_ordered_pairs():
    truth, scores = _opinions(60)
    truth = np.round(truth, 1)  # some equal human scores
    counts = {kind: [0, 0, 0] for kind in agreement.KINDS}
    for a, b in itertools.product(range(60), repeat=2):
        label = levels.label_from_teachers(scores[a], scores[b])
        kind = agreement.KINDS[abs(levels.level_index(label) - 2)]
        gap = scores[b].mean() - scores[a].mean()
        counts[kind][0] += 1
        counts[kind][1] += (truth[b] - truth[a]) * gap > 0
        counts[kind][2] += truth[b] == truth[a]
    for entry in agreement.label_precision(scores, truth):
        pairs, right, tied = counts[entry.kind]
        assert entry.share == pytest.approx(pairs / 3600)
        assert entry.right == pytest.approx(right / pairs)
        assert entry.told_apart == pytest.approx(right / (pairs - tied))
    with pytest.raises(ValueError, match="finite"):
        agreement.label_precision(np.full((3, 2), np.nan), np.arange(3.0))


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("KoNViD-1k", (60.1, 76.6, 92.5)),
        ("LIVE-VQC", (56.9, 70.7, 89.3)),
        ("LSVQ_test", (59.2, 73.9, 92.3)),
    ],
)
def test_precision_of_two_real_teachers(shared, name, published):
    """The branches of DOVER, z-scored, label random pairs; people say who is right."""
    scored = dover(shared, name)
    united = agreement.standardized(scored, "zscore")
    np.testing.assert_allclose(united.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(united.std(axis=0), 1, atol=1e-9)
    exact = agreement.label_precision(united, scored.mos)
    assert tuple(100 * entry.right for entry in exact) == pytest.approx(published, abs=0.5)
    # Independent of that function: a million draws, labelled one by one with plain arithmetic.
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, len(united), (2, 1_000_000))
    gap = united[b].mean(axis=1) - united[a].mean(axis=1)
    spread = np.sqrt(united[a].var(axis=1) + united[b].var(axis=1))
    right = gap * (scored.mos[b] - scored.mos[a]) > 0
    kind = (np.abs(gap) > spread).astype(int) + (np.abs(gap) > 2 * spread)
    drawn = [100 * right[kind == k].mean() for k in range(3)]
    assert drawn == pytest.approx(published, abs=0.5)
    assert [100 * entry.right for entry in exact] == pytest.approx(drawn, abs=0.3)


def test_description_of_real_teachers(shared):
    facts = agreement.describe(dover(shared, "LIVE-VQC"))
    srcc = facts["agreement"][0][1]
    scored = dover(shared, "LIVE-VQC")
    assert srcc == pytest.approx(stats.spearmanr(*scored.scores.T)[0])
    assert [t["name"] for t in facts["teachers"]] == ["aesthetic", "technical"]
    assert all(t["scale"]["method"] == "logistic" and not t["odd"] for t in facts["teachers"])
    assert facts["with_mos"] == facts["videos"] == 585
    for entry in facts["leave_one_out"]:  # one teacher left: no deviation, no `similar`
        assert entry["labels"]["similar"] < 0.01
        assert entry["changed"] > 0.1


def test_odd_teacher_is_found_and_its_effect_told():
    truth, scores = _opinions(noise=(0.3, 0.4, 0.5, 0.4))
    rng = np.random.default_rng(1)
    scores[:, 2] = rng.normal(size=len(truth))
    facts = agreement.describe(_set(scores, truth))
    assert [t["odd"] for t in facts["teachers"]] == [False, False, True, False]
    changed = [entry["changed"] for entry in facts["leave_one_out"]]
    assert np.argmax(changed) == 2
    better = [entry["precision"][2]["right"] for entry in facts["leave_one_out"]]
    assert np.argmax(better) == 2
    assert sum(facts["labels"].values()) == pytest.approx(1)
    assert facts["disputed"][0]["std"] >= facts["disputed"][-1]["std"] > 0
    assert not agreement.odd_teachers(np.array([0.1, 0.1])).any()


def test_direction_missing_scores_and_constant_teachers():
    truth, scores = _opinions()
    turned = scores * [1, -1, 1]
    united = agreement.standardized(_set(turned, higher=[True, False, True]), "zscore")
    np.testing.assert_allclose(united, agreement.standardized(_set(scores), "zscore"))
    scores[:50, 0] = np.nan
    scores[:, 1] = 3.0
    facts = agreement.describe(_set(scores, truth))
    assert facts["complete"] == 350 and facts["videos"] == 400
    assert facts["agreement"][0][1] is None and facts["agreement"][0][2] > 0.5
    assert facts["teachers"][1]["mos_srcc"] is None
    nobody = agreement.describe(_set(np.full((5, 2), np.nan)))
    assert nobody["complete"] == 0 and "labels" not in nobody
    with pytest.raises(ValueError, match="method"):
        agreement.standardized(_set(scores), "minmax")
    with pytest.raises(ValueError, match="do not fit"):
        agreement.ScoredSet("x", ["a"], ["t"], [True], np.zeros((2, 1)))


def test_human_scores_are_read_beside_the_teachers(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("Video,MOS,a\nx,3,0.1\ny,,0.2\n")
    assert read_human_scores(path) == {"x": 3.0}
    path.write_text("video,a\nx,0.1\n")
    assert read_human_scores(path) == {}
