"""The formula of model FLOPs by hand."""

import pytest

from vqa_jax.models import flops as model_flops
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import count_parameters


def test_seven_billion_parameters_by_hand():
    cfg = PRESETS["ov_7b"]
    pairs = model_flops.PairShape(1, 10, 10, 4096, 14)
    frozen = model_flops.training_flops(cfg, pairs, lambda path: not path.startswith("llm"))
    llm = 6_525_288_448  # 28 x (2 x 3584^2 + 2 x 3584 x 512 + 3 x 3584 x 18944), by hand
    attention = 2 * 4096**2 * 28 * 128 * 28
    head = 2 * 14 * 3584 * 152064
    tower = 26 * (4 * 1152**2 + 2 * 1152 * 4304) + 588 * 1152
    rows = 20 * 729
    vision = 2 * rows * tower + 26 * 4 * 20 * 729**2 * 1152
    projector = 2 * rows * (1152 * 3584 + 3584**2) + 2 * 20 * (256 * 3584 + 3584**2)
    expected = 2 * 4096 * llm + attention + head + vision + projector
    assert frozen.forward == pytest.approx(expected, rel=1e-12)
    assert count_parameters(cfg)["llm"] == pytest.approx(llm + 2 * 152064 * 3584, rel=1e-3)
    # No weight gradient in the decoder, gradients of its inputs in all of it.
    assert frozen.weight_gradients == pytest.approx(2 * rows * tower + projector, rel=1e-12)
    everything = model_flops.training_flops(cfg, pairs, lambda _: True)
    assert everything.weight_gradients == pytest.approx(
        frozen.weight_gradients + 2 * 4096 * llm + head, rel=1e-12
    )
    assert everything.forward == frozen.forward
