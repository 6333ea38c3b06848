"""Operations of scoring at published size, from shapes alone; and that the counts add up."""

import pytest

from vqa_jax.models import flops
from vqa_jax.models.presets import PRESETS
from vqa_jax.planning import scoring_cost

TEXT = 90  # tokens of the scoring prompt in Qwen2's vocabulary, about


@pytest.fixture(scope="module")
def published():
    return scoring_cost.count(PRESETS["ov_7b"], frames=10, clips=10, text=TEXT)


def test_cached_anchors_save_more_than_half_at_published_size(published):
    assert published.share(5) <= 0.44
    assert published.share(2.99) <= 0.30  # the adaptive mode's mean on held-out clips


def test_counts_are_those_of_the_formula_plus_attention_that_the_mask_throws_away(published):
    cfg = PRESETS["ov_7b"]
    encode = flops.encoding_flops(cfg, 1, 10, 10).total
    assert published.encode == pytest.approx(encode, rel=0.02)
    video = 10 * cfg.tokens_per_frame + 1 + 10
    prefix, suffix = video + TEXT // 2, video + TEXT - TEXT // 2
    half = flops.suffix_flops(cfg, 1, suffix, prefix).total
    assert published.suffix == pytest.approx(half, rel=0.05) and published.suffix >= half
    assert published.pair == pytest.approx(2 * published.suffix, rel=0.05)


def test_a_full_pass_for_every_anchor_is_the_unit():
    cost = scoring_cost.ScoringCost(encode=1.0, pair=10.0, suffix=5.0)
    assert cost.share(5) == pytest.approx((1 + 25) / 60)
    assert cost.share(2.5, passes=1) == pytest.approx(13.5 / 12)
