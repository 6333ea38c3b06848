"""Labels and weights of the five levels."""

import json

import numpy as np
import pytest

from vqa_jax.pairs import levels


def test_labels_and_margins_match_goldens(shared):
    cases = json.loads((shared / "golden/math/pair_labels.json").read_text())
    for case in cases:
        assert levels.label_from_teachers(case["first"], case["second"]) == case["label"]
        margin = levels.teacher_margin(case["first"], case["second"], 0.0)
        np.testing.assert_allclose(margin, (case["difference"], case["sigma"]), rtol=1e-12)
    assert {case["label"] for case in cases} == set(levels.LEVELS)


@pytest.mark.parametrize(
    ("difference", "label"),
    [
        (2.1, "superior"),
        (2, "better"),
        (1, "similar"),
        (0, "similar"),
        (-0.9, "similar"),
        (-1, "worse"),
        (-1.9, "worse"),
        (-2, "inferior"),
    ],
)
def test_bounds_belong_to_the_lower_level(difference, label):
    assert levels.label_from_margin(difference, 1.0) == label


def test_levels_of_many_pairs_are_those_of_each():
    # By hand from the method: D above 2 s_D, above s_D, above -s_D, above -2 s_D, else; D = 0.
    gaps = np.array([[-3, -2, -1.5, -1, -0.2, 0], [0.2, 1, 1.5, 2, 3, 0]], float)
    found = levels.levels_from_margins(gaps, np.ones_like(gaps))
    assert found.tolist() == [[0, 0, 1, 1, 2, 2], [2, 2, 3, 3, 4, 2]]
    found = levels.levels_from_margins(gaps, np.zeros_like(gaps))  # one teacher: no spread
    assert found.tolist() == [[0, 0, 0, 0, 0, 2], [4, 4, 4, 4, 4, 2]]


def test_zero_difference_without_spread_is_similar():
    assert levels.label_from_teachers([3.0], [3.0]) == "similar"
    assert levels.label_from_teachers([3.0], [3.1]) == "superior"
    assert levels.label_from_teachers([3.0], [3.1], std_floor=0.2) == "similar"


def test_swapping_a_pair_mirrors_its_label():
    rng = np.random.default_rng(0)
    for _ in range(100):
        first, second = rng.normal(size=(2, 4))
        label = levels.label_from_teachers(first, second)
        assert levels.label_from_teachers(second, first) == levels.mirror(label)
    assert [levels.mirror(x) for x in levels.LEVELS] == list(levels.LEVELS[::-1])


def test_severity_labels_describe_the_second_video():
    assert levels.label_from_severity(0, 1) == "worse"
    assert levels.label_from_severity(1, 5) == "inferior"
    assert levels.label_from_severity(3, 2) == "better"
    assert levels.label_from_severity(4, 0) == "superior"
    with pytest.raises(ValueError, match="no label"):
        levels.label_from_severity(2, 2)


def test_preference_weighs_levels_from_worst_to_best():
    logits = np.log([[0.1, 0.2, 0.3, 0.25, 0.15], [1e-9, 1e-9, 1e-9, 1e-9, 1.0]])
    np.testing.assert_allclose(levels.preference(logits), [0.5375, 1.0], atol=1e-8)
    np.testing.assert_allclose(levels.preference(logits, tau=1e9), [0.5, 0.5], atol=1e-6)
    one_hot = np.stack([levels.level_probs(x) for x in levels.LEVELS])
    np.testing.assert_array_equal(one_hot, np.eye(5, dtype=np.float32))


def test_chances_are_the_shares_of_levels_that_noisy_margins_get():
    margins = np.array([-3.0, -1.5, 0.0, 0.4, 2.0])
    draws = margins[:, None] + np.random.default_rng(0).normal(size=(5, 200_000))
    found = levels.levels_from_margins(draws, np.ones_like(draws))
    expected = np.stack([np.bincount(row, minlength=5) for row in found]) / draws.shape[1]
    np.testing.assert_allclose(levels.chances(margins), expected, atol=0.005)
    np.testing.assert_allclose(levels.chances(-margins), levels.chances(margins)[:, ::-1], 1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: levels.mirror("good"),
        lambda: levels.preference(np.zeros(4)),
        lambda: levels.preference(np.zeros(5), tau=0),
        lambda: levels.label_from_severity(-1, 2),
        lambda: levels.label_from_teachers([1, np.nan], [1, 2]),
        lambda: levels.label_from_teachers([1], [1, 2]),
    ],
)
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()
