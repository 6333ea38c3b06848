"""Natural scene statistics: shapes that are found, statistics that are shipped."""

import numpy as np
import pytest
from scipy import special, stats

from vqa_jax.teachers import nss


def test_generalized_gaussian_shape_is_found():
    rng = np.random.default_rng(0)
    for alpha in (0.7, 1.0, 2.0, 4.0):
        sample = stats.gennorm(alpha).rvs((1, 300, 300), random_state=rng)
        found = nss._shape_features(sample.astype(np.float32))[0]
        assert found[0] == pytest.approx(alpha, rel=0.05)
        variance = np.exp(special.gammaln(3 / alpha) - special.gammaln(1 / alpha))
        assert found[1] == pytest.approx(variance, rel=0.05)


def test_shipped_statistics_are_what_the_command_fits(tmp_path):
    fitted = nss.fit_pristine(nss.builtin_photographs())
    nss.save_pristine(fitted, tmp_path / "again.npz")
    again = nss.load_pristine(tmp_path / "again.npz")
    shipped = nss.load_pristine()
    for name in ("patch_mean", "patch_cov", "frame_mean", "frame_std"):
        np.testing.assert_allclose(
            getattr(again, name), getattr(shipped, name), rtol=1e-2, atol=1e-4
        )
    assert np.linalg.eigvalsh(shipped.patch_cov).min() > 0
