"""DOVER: the constants of its score."""

import numpy as np

from vqa_jax.teachers.neural.dover import FUSION, FUSION_BY_BRANCH


def test_constants_by_branch_rank_real_scores_better(shared):
    """The comment in dover.py: whose means and stds these are, and which order ranks better."""
    from scipy.stats import spearmanr

    for name in ("KoNViD-1k", "LIVE-VQC", "LSVQ_test", "LSVQ_1080p"):
        table = np.genfromtxt(
            shared / f"benchmarks/dover/{name}.csv", delimiter=",", names=True, usecols=(1, 2, 3)
        )
        technical, aesthetic = table["technical"], table["aesthetic"]
        by_script = spearmanr(FUSION(technical, aesthetic), table["mos"])[0]
        by_branch = spearmanr(FUSION_BY_BRANCH(technical, aesthetic), table["mos"])[0]
        assert by_branch > by_script + 0.004, name
        if name == "LIVE-VQC":
            np.testing.assert_allclose(technical.mean(), -0.08285, atol=5e-4)
            np.testing.assert_allclose(aesthetic.mean(), 0.1107, atol=5e-4)
