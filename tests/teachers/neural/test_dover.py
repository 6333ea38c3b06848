"""DOVER: the constants of its score."""

import numpy as np

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.teachers.neural.dover import FUSION_BY_BRANCH, FUSION_BY_SCRIPT


def test_scales_of_scores():
    exact = TOLERANCES["scores_and_losses"]
    assert FUSION_BY_SCRIPT(0.1107, -0.08285) == 0.5
    want = 1 / (1 + np.exp(-(0.6104 - 0.3896)))
    np.testing.assert_allclose(
        FUSION_BY_SCRIPT(0.1107 + 0.07355, -0.08285 - 0.03774), want, **exact
    )
    by_branch = FUSION_BY_BRANCH(-0.08285 - 0.03774, 0.1107 + 0.07355)
    np.testing.assert_allclose(by_branch, want, **exact)


def test_constants_by_branch_rank_real_scores_better(shared):
    """The comment in dover.py: whose means and stds these are, and which order ranks better."""
    from scipy.stats import spearmanr

    for name in ("KoNViD-1k", "LIVE-VQC", "LSVQ_test", "LSVQ_1080p"):
        table = np.genfromtxt(
            shared / f"benchmarks/dover/{name}.csv", delimiter=",", names=True, usecols=(1, 2, 3)
        )
        technical, aesthetic = table["technical"], table["aesthetic"]
        by_script = spearmanr(FUSION_BY_SCRIPT(technical, aesthetic), table["mos"])[0]
        by_branch = spearmanr(FUSION_BY_BRANCH(technical, aesthetic), table["mos"])[0]
        assert by_branch > by_script + 0.004, name
        if name == "LIVE-VQC":
            np.testing.assert_allclose(technical.mean(), -0.08285, atol=5e-4)
            np.testing.assert_allclose(aesthetic.mean(), 0.1107, atol=5e-4)
