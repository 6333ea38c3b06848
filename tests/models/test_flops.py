"""The formula of model FLOPs by hand."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from vqa_jax.devices import execution
from vqa_jax.models import flops as model_flops
from vqa_jax.models.cell_tower import CellTowerConfig
from vqa_jax.models.efficientnet_lite import SIZES, EfficientNetLite
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import count_parameters
from vqa_jax.planning import flops as counting


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


def test_norms_of_heads_cost_nothing_and_what_follows_them_depends_on_them():
    cfg = PRESETS["qwen3_siglip2_4b"]
    pairs = model_flops.PairShape(1, 10, 10, 4096, 14)
    llm = cfg.llm
    sizes = 36 * (2560 * 4096 * 2 + 2 * 2560 * 1024 + 3 * 2560 * 9728)
    first = 2 * 4096 * 2560 * (4096 + 2 * 1024)  # products before the first layer's norms
    norms = model_flops.training_flops(cfg, pairs, lambda path: path.endswith("q_norm_scale"))
    attention = 2 * 4096**2 * llm.num_heads * llm.head_dim * llm.num_layers
    head = 2 * 14 * 2560 * 151936
    assert norms.weight_gradients == 0
    expected = 2 * 4096 * sizes - first + 2 * attention + head
    assert norms.input_gradients == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lite", SIZES)
def test_a_pretrained_tower_costs_what_its_jaxpr_counts(lite, monkeypatch):
    """Where a depthwise convolution is one: on CPUs it is written as products."""
    monkeypatch.setattr(execution.Execution, "platform", "tpu")
    vision = CellTowerConfig(lite)
    abstract = nnx.eval_shape(lambda: EfficientNetLite(vision.network, nnx.Rngs(0)))
    graph, state = nnx.split(abstract)

    def run(state, frames):
        return list(nnx.merge(graph, state).stage_outputs(frames))

    for size in ((384, 512), (65, 97)):
        frames = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
        counted = counting.count(run, state, frames).total
        assert model_flops.cell_tower_flops(vision, *size) == pytest.approx(counted, rel=1e-12)


def test_a_students_encoding_holds_its_pretrained_tower_and_its_training_does_not():
    cfg = PRESETS["small"]
    videos, frames = 2, 3
    tower = model_flops.cell_tower_flops(cfg.vision, 512, 683)
    assert 4e9 < tower < 7e9  # 0.4 billion products at 224 x 224 are published
    rows = videos * frames * 4
    projectors = 2 * rows * (4128 * 96 + 96**2) + 2 * videos * (128 * 96 + 96**2)
    found = model_flops.encoding_flops(cfg, videos, frames, 1).forward
    assert found == pytest.approx(videos * frames * tower + projectors, rel=1e-12)
    pairs = model_flops.PairShape(1, frames, 1, 100, 1)
    assert model_flops.training_flops(cfg, pairs, lambda _: True).forward < tower / 10
