"""One scale for all teachers: shares, direction, and the told constants."""

import json

import numpy as np
import pytest
from scipy import special, stats

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers import scales as teacher_scales


@pytest.mark.parametrize("method", teacher_scales.METHODS)
def test_united_scores_share_scale_and_direction(method):
    rng = np.random.default_rng(0)
    quality = rng.normal(size=80)
    raw = np.stack(
        [quality, np.exp(-quality), 1e4 + 5 * quality + rng.normal(size=80), np.ones(80)], axis=1
    )
    raw[3, 0] = np.nan
    united, scales = teacher_scales.unite(raw, method, higher_is_better=[True, False, True, True])
    assert np.isnan(united[3, 0])
    assert np.nanmin(united) >= 0 and np.nanmax(united) <= 100
    rows = np.arange(80) != 3
    for column in range(3):
        assert stats.spearmanr(united[rows, column], quality[rows]).statistic > 0.95
    np.testing.assert_allclose(united[:, 3], 50)
    if method == "rank":
        np.testing.assert_allclose(np.sort(united[:, 1]), 100 * (np.arange(80) + 0.5) / 80)
    assert [s.videos for s in scales] == [79, 80, 80, 80]
    assert [s.method for s in scales] == [*3 * [method], "rank"]


def test_the_told_constants_map_the_raw_scores():
    rng = np.random.default_rng(1)
    quality = rng.normal(size=(60, 1))
    raw = quality * [1, -30, 2] + [0, 400, 7] + rng.normal(size=(60, 3)) * [0.3, 9, 0.5]
    united, scales = teacher_scales.unite(raw, "logistic", [True, False, True])
    for column, scale in enumerate(scales):
        facts = json.loads(json.dumps(scale.as_json()))
        c = facts["logistic"]
        assert (c["width"] < 0) == (column == 1) == (not facts["higher_is_better"])
        told = c["bottom"] + (c["top"] - c["bottom"]) * special.expit(
            (raw[:, column] - c["centre"]) / c["width"]
        )
        np.testing.assert_allclose(
            np.clip(told, 0, 100), united[:, column], **TOLERANCES["scores_and_losses"]
        )
    _, scales = teacher_scales.unite(raw, "rank")
    told = dict(scales[1].quantiles)
    assert told[0] == raw[:, 1].min() and told[50] == np.median(raw[:, 1])
    assert scales[1].as_json()["logistic"] is None


def test_logistic_keeps_the_direction_of_a_teacher_that_disagrees():
    quality = np.linspace(0, 1, 50)
    raw = np.stack([quality, quality**2, -quality], axis=1)
    united, scales = teacher_scales.unite(raw, "logistic")
    assert (np.diff(united[:, 2]) < 0).all()
    assert [s.method for s in scales] == ["logistic", "logistic", "rank"]
    with pytest.raises(ValueError, match="directions"):
        teacher_scales.unite(raw, higher_is_better=[True])
    with pytest.raises(ValueError, match="method"):
        teacher_scales.unite(raw, "mean")
