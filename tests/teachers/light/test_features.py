"""What light teachers see of a picture."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.efficientnet_lite import EfficientNetLiteConfig, moments
from vqa_jax.teachers.light import features
from vqa_jax.teachers.light.model import LightTeacherError
from vqa_jax.weights.named import load_efficientnet_lite
from vqa_jax.weights.towers import shipped_path


def test_families_are_parts_of_one_look_at_the_tower(monkeypatch):
    monkeypatch.setattr(features, "VIEW", Preprocess(view="fit", image_size=32))
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    extractor = features.Extractor()
    seen = [features.seen(picture), features.seen(picture[::-1])]
    early, late = (extractor(name, seen) for name in ("lite0_early", "lite0_late"))
    every = extractor("lite0_all", seen)
    widths = EfficientNetLiteConfig(0).widths
    assert every.shape == (2, 2 * sum(widths))
    np.testing.assert_array_equal(early, every[:, : early.shape[1]])
    np.testing.assert_array_equal(late, every[:, -late.shape[1] :])
    assert early.shape[1] == 2 * sum(widths[:3]) and late.shape[1] == 2 * sum(widths[5:])
    # The batch is filled up, and none sees the filling: the first stage by hand.
    network = load_efficientnet_lite(shipped_path(0))
    mean, deviation = moments(next(network.stage_outputs(jnp.asarray(seen[1][None]))))
    np.testing.assert_allclose(every[1, :32], np.concatenate([mean[0], deviation[0]]), atol=1e-4)


def test_pictures_come_in_few_shapes_and_seen_ones_stay():
    for shape in ((300, 400, 3), (90, 60, 3), (500, 480, 3), (48, 400, 3)):
        seen = features.seen(np.zeros(shape, np.uint8))
        assert seen.shape[:2] in features.VIEW.fit_shapes()
        assert features.seen(seen) is seen


def test_a_tower_that_is_not_there_is_told_before_any_work(tmp_path):
    with pytest.raises(LightTeacherError, match="convert_efficientnet_lite"):
        features.Extractor(str(tmp_path))("lite2_late", [np.zeros((32, 32, 3), np.uint8)])
