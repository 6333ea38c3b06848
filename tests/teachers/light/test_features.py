"""What light teachers see of a picture."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.efficientnet_lite import EfficientNetLiteConfig
from vqa_jax.teachers.light import features
from vqa_jax.teachers.light.model import LightTeacherError
from vqa_jax.weights.named import load_efficientnet_lite
from vqa_jax.weights.towers import shipped_path


def test_families_are_parts_of_one_look_at_the_tower(monkeypatch):
    monkeypatch.setattr(features, "VIEW", Preprocess(view="fit", image_size=32))
    picture = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    extractor = features.Extractor()
    seen = [features.seen(picture), features.seen(picture[::-1])]
    middle, every = (extractor(name, seen) for name in ("lite0_mid", "lite0_all"))
    widths = EfficientNetLiteConfig(0).widths
    total = sum(widths)
    assert every.shape == (2, 2 * total)
    columns = slice(sum(widths[:2]), sum(widths[:6]))
    wanted = [every[:, :total][:, columns], every[:, total:][:, columns]]
    np.testing.assert_array_equal(middle, np.concatenate(wanted, 1))
    # The batch is filled up, and none sees the filling: the first stage by hand.
    network = load_efficientnet_lite(shipped_path(0))
    maps = np.asarray(next(network.stage_outputs(jnp.asarray(seen[1][None]))), np.float64)[0]
    found = np.concatenate([every[1, :16], every[1, total : total + 16]])
    by_hand = np.concatenate([maps.mean((0, 1)), maps.std((0, 1))])
    np.testing.assert_allclose(found, by_hand, **TOLERANCES["moments_of_tokens"])


def test_stages_of_a_tower_weigh_the_same_and_other_features_one():
    widths = EfficientNetLiteConfig(0).widths
    weights = features.balance("lite0_late", 2 * sum(widths[5:])) ** 2
    parts = np.split(weights, np.cumsum([*widths[5:], *widths[5:]])[:-1])
    np.testing.assert_allclose([part.sum() for part in parts], parts[0].sum(), rtol=1e-5)
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-5)
    np.testing.assert_array_equal(features.balance("colour", 7), np.ones(7))


def test_pictures_come_in_few_shapes_and_seen_ones_stay():
    for shape in ((300, 400, 3), (90, 60, 3), (500, 480, 3), (48, 400, 3)):
        seen = features.seen(np.zeros(shape, np.uint8))
        assert seen.shape[:2] in features.VIEW.fit_shapes()
        assert features.seen(seen) is seen


def test_a_tower_that_is_not_there_is_told_before_any_work(tmp_path):
    with pytest.raises(LightTeacherError, match="convert_efficientnet_lite"):
        features.Extractor(str(tmp_path))("lite2_late", [np.zeros((32, 32, 3), np.uint8)])
