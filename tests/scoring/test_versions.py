"""Versions ranked by every pair, and conditions on them; the student's opinion is given."""

import itertools

import numpy as np
import pytest
from scipy import stats

from tests.fixtures.known_versions import KnowingStudent, OtherStudent
from vqa_jax.scoring import versions
from vqa_jax.settings import SettingsError

VIDEOS = ["0.2.mp4", "1.1.mp4", "gone.mp4", "-0.9.mp4"]


@pytest.fixture(scope="module")
def ranking():
    return versions.rank(KnowingStudent(), VIDEOS, "1.4.mp4")


def test_every_pair_is_asked_and_the_order_is_that_of_the_qualities(ranking):
    assert [v.name for v in ranking.versions] == ["A", "B", "C", "D", "REF"]
    assert [v.name for v in ranking.usable] == ["REF", "B", "A", "D"]
    assert [v.rank for v in ranking.usable] == [1, 2, 3, 4]
    assert ranking.versions[2].error == "no such file [probe]" and ranking.versions[2].q is None
    assert [(p.first, p.second) for p in ranking.pairs] == list(
        itertools.combinations(["A", "B", "D", "REF"], 2)
    )
    for one, other, gap in (("B", "A", 0.9), ("A", "B", -0.9), ("D", "REF", -2.3)):
        assert ranking.better(one, other) == pytest.approx(stats.norm.cdf(gap), abs=1e-9)
    assert not any(pair.contradictory for pair in ranking.pairs)
    assert sum(v.q for v in ranking.usable) == pytest.approx(0, abs=1e-9)
    # The scores are those that `score` gives, whoever else takes part.
    alone = versions.rank(KnowingStudent(), ["0.2.mp4", "-0.9.mp4"])
    assert alone.versions[0].score == pytest.approx(ranking.versions[0].score, abs=1e-9)
    assert np.all(np.diff([v.score for v in ranking.usable]) < 0)


def test_a_student_of_one_answer_contradicts_itself_and_ties():
    found = versions.rank(OtherStudent(), ["1.mp4", "-1.mp4"])
    assert found.pairs[0].contradictory and found.pairs[0].second_better == pytest.approx(0.5)
    assert found.versions[0].q == pytest.approx(found.versions[1].q, abs=1e-9)
    assert found.versions[0].score is None and "no anchors" in found.scale
    with pytest.raises(SettingsError, match="A has no score"):
        versions.holds("A<5", found)


@pytest.mark.parametrize("number", [0, 1, versions.MOST + 1])
def test_too_few_or_too_many_versions_are_refused(number):
    with pytest.raises(SettingsError, match=f"{number} versions"):
        versions.rank(KnowingStudent(), ["0.mp4"] * number)


def test_conditions_are_on_scores_and_probabilities(ranking):
    a, b = (v.score for v in ranking.versions[:2])
    gap = b - a
    for condition, truth in (
        ("A<B", True),
        ("A > B", False),
        (f"A<B-{gap - 0.01}", True),
        (f"A<B-{gap + 0.01}", False),
        (f"B > A + {gap - 0.01}", True),
        (f"{a + 1}>A", True),
        ("D<-1000", False),
        ("P(A>B)<0.4", True),
        ("P(REF>A)<.5", False),
        ("P(A>B)<P(B>A)", True),
    ):
        assert versions.holds(condition, ranking) is truth, condition


@pytest.mark.parametrize(
    "condition",
    ["", "A", "A<", "A=B", "a<B", "A<B<D", "A<B5", "P(A)<1", "REFA<1", "A<--5", "5.5.5<A"],
)
def test_what_is_no_condition_says_how_to_write_one(condition):
    with pytest.raises(SettingsError, match="B<A-5"):
        versions.parsed(condition)


def test_conditions_on_versions_that_are_not_there_are_errors(ranking):
    for condition in ("E<A", "A<C", "P(A>C)>0", "P(A>A)>0"):
        with pytest.raises(SettingsError):
            versions.holds(condition, ranking)
