"""The regression's arithmetic."""

import numpy as np

from vqa_jax.teachers.light import regression


def test_score_is_what_the_formula_says():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 4)).astype(np.float32)
    fitted = regression.Regression(
        mean=rng.normal(size=4).astype(np.float32),
        scale=np.full(4, 2, np.float32),
        basis=rng.normal(size=(4, 3)).astype(np.float16),
        landmarks=rng.normal(size=(2, 3)).astype(np.float16),
        weights=rng.normal(size=6).astype(np.float32),
        gamma=np.float32(0.3),
    )
    z = (features - fitted.mean) / 2 @ fitted.basis.astype(np.float32)
    wanted = fitted.weights[-1] + z @ fitted.weights[2:5]
    for landmark, weight in zip(fitted.landmarks, fitted.weights, strict=False):
        wanted = wanted + weight * np.exp(-0.3 * ((z - landmark) ** 2).sum(1))
    np.testing.assert_allclose(fitted(features), wanted, rtol=1e-4)
    assert set(fitted.tensors()) == {*("mean", "scale", "basis", "landmarks", "weights", "gamma")}
    # Far out, features are taken for what lies at the edge.
    np.testing.assert_allclose(fitted(features + 1e6), fitted(features + 1e7))
