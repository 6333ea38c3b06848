"""What a student must tell apart, and where scores end."""

import numpy as np
import pytest

from vqa_jax.scoring import sanity
from vqa_jax.scoring.thurstone import average_orders


def _answers(gaps, bias=0.0):
    """Probability that the second of two anchors is preferred; `gaps` are its advantages."""
    return np.clip(0.5 + np.subtract.outer(-np.array(gaps), -np.array(gaps)) + bias, 0, 1)


@pytest.mark.parametrize(("bias", "side"), [(0.2, "second"), (-0.2, "first")])
def test_answers_that_cancel_are_refused_and_say_what_is_preferred(bias, side):
    answers = _answers([0.0, 0.005, 0.01], bias)
    with pytest.raises(ValueError, match=rf"more than 0\.510 and always prefers .* {side}"):
        sanity.check(answers, average_orders(answers))


def test_the_bound_is_of_the_surest_preference():
    for gap, fine in ((0.02, False), (0.04, True)):
        answers = _answers([0.0, gap])
        if fine:
            sanity.check(answers, average_orders(answers))
        else:
            with pytest.raises(ValueError, match=r"more than 0\.520\."):
                sanity.check(answers, average_orders(answers))


def test_answers_that_are_no_numbers():
    answers = np.full((2, 2), np.nan)
    with pytest.raises(ValueError, match="no numbers"):
        sanity.check(answers, answers)


def test_contradictions_are_counted_over_pairs():
    answers = _answers([0.0, 0.1, 0.4], 0.2)  # the pair that is 0.1 apart is turned, two are not
    assert sanity.contradicted(answers) == pytest.approx(1 / 3)
    assert sanity.remark(answers) == ""
    assert "100%" in sanity.remark(_answers([0.0, 0.1, 0.15], 0.2))


@pytest.mark.parametrize(
    ("score", "words"),
    [(50.0, ""), (170.0, ""), (-70.0, ""), (171.0, "better"), (-71.0, "worse"), (4e5, "better")],
)
def test_a_score_a_range_beyond_the_anchors_is_marked(score, words):
    found = sanity.note(score, (10.0, 40.0, 90.0))
    assert words in found and bool(found) == bool(words)
