"""FLOPs from jaxprs against hand counts and XLA's own count; the model's formula against both."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import Mesh, PartitionSpec

from tests.fixtures import tiny_corpus
from tests.fixtures.planned_step import config as config_of
from tests.fixtures.planned_step import context_mesh, micro_spec
from vqa_jax import settings
from vqa_jax.devices import sharding
from vqa_jax.models import flops as model_flops
from vqa_jax.models.functional import FunctionalStudent, with_additions
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import bilinear_pool
from vqa_jax.planning import flops, shapes
from vqa_jax.settings import LossConfig
from vqa_jax.training import optim, step

SPEC = tiny_corpus.student_spec()


def shape(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)


def test_products_by_hand():
    assert flops.count(lambda a, b: a @ b, shape(3, 5), shape(5, 7)).total == 2 * 3 * 5 * 7
    batched = flops.count(
        lambda a, b: jnp.einsum("gij,gkj->gik", a, b), shape(4, 3, 5), shape(4, 7, 5)
    )
    assert batched.total == 2 * 4 * 3 * 5 * 7
    assert flops.count(lambda a: jnp.exp(a) + a, shape(9, 9)).total == 0


def test_convolution_by_hand():
    def convolve(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    found = flops.count(convolve, shape(2, 10, 8, 6), shape(3, 3, 3, 4))
    assert found.total == 2 * (2 * 8 * 6 * 4) * 3 * 3 * 3


def test_bytes_of_products_by_hand():
    def loop(x, w):
        return jax.lax.scan(lambda c, _: (jnp.sin(c @ w), None), x, length=11)[0]

    assert flops.count(loop, shape(3, 5), shape(5, 5)).moved == 11 * 4 * (3 * 5 + 5 * 5 + 3 * 5)
    halves = shape(3, 5, dtype=jnp.bfloat16), shape(5, 7, dtype=jnp.bfloat16)
    assert flops.count(lambda a, b: a @ b, *halves).moved == 2 * (3 * 5 + 5 * 7 + 3 * 7)
    assert flops.count(lambda a: a + a, shape(9, 9)).moved == 0


def test_loops_count_as_often_as_they_run_and_dead_code_does_not():
    def loop(x, w):
        unused = w @ w
        return jax.lax.scan(lambda c, _: (c @ w, unused.sum()), x, length=11)[0]

    assert flops.count(loop, shape(3, 5), shape(5, 5)).total == 11 * 2 * 3 * 5 * 5
    unknown = flops.count(
        lambda x, w: jax.lax.while_loop(lambda c: c.sum() > 0, lambda c: c @ w, x),
        *(shape(3, 5), shape(5, 5)),
    )
    assert unknown.total == 2 * 3 * 5 * 5 and unknown.unknown_loops == 1


def test_the_longer_branch_counts():
    def either(x, w):
        return jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w)

    assert flops.count(either, shape(3, 5), shape(5, 5)).total == 2 * 2 * 3 * 5 * 5


@pytest.mark.parametrize(("policy", "forwards"), [("everything_saveable", 1), (None, 2)])
def test_recomputation_is_executed(policy, forwards):
    policy = getattr(jax.checkpoint_policies, policy) if policy else None

    @functools.partial(jax.checkpoint, policy=policy)
    def layer(x, w):
        return jnp.sin(jnp.sin(x @ w) @ w)

    one = 2 * 3 * 5 * 5
    gradient = jax.value_and_grad(lambda x, w: layer(x, w).sum(), (0, 1))
    found = flops.count(gradient, shape(3, 5), shape(5, 5))
    assert found.total == 2 * one * (forwards + 2)


def test_a_device_does_its_part_of_a_sharded_function():
    mesh = Mesh(np.array(jax.devices()).reshape(8), ("data",))
    spec = PartitionSpec("data")
    local = jax.shard_map(
        lambda x, w: x @ w, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec
    )
    assert flops.count(local, shape(16, 5), shape(5, 7)).total == 2 * 16 * 5 * 7
    whole = jax.shard_map(
        lambda x, w: x @ w, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec()
    )
    # Every device computes all of it, which is what is executed.
    assert flops.count(whole, shape(16, 5), shape(5, 7)).total == 8 * 2 * 16 * 5 * 7


def test_kernel_counts_the_blocks_that_its_mask_leaves():
    heads, length, width, block = 2, 512, 128, 128
    mask = masks.MultiHeadMask([masks.CausalMask((length, length))] * heads)
    sizes = splash.BlockSizes(
        **dict.fromkeys(
            ("block_q", "block_kv", "block_q_dkv", "block_kv_dkv", "block_q_dq", "block_kv_dq"),
            block,
        )
    )
    kernel = jax.vmap(splash.make_splash_mha_single_device(mask, block_sizes=sizes))
    found = flops.count(kernel, *[shape(3, heads, length, width)] * 3)
    blocks = (length // block) * (length // block + 1) // 2
    assert found.total == found.kernels == 3 * heads * blocks * 2 * 2 * block * block * width
    # Queries, keys, values and the result: what happens inside stays on the chip. Block numbers and
    # what the kernel keeps between blocks are small.
    arrays = 4 * 3 * heads * length * width * 4
    assert arrays <= found.moved < 1.15 * arrays


def _student(width):
    """Wide enough for products to dominate what XLA counts."""
    cfg = PRESETS["tiny"]
    vision = dataclasses.replace(cfg.vision, embed_dim=width, mlp_dim=4 * width, num_heads=2)
    llm = dataclasses.replace(
        cfg.llm, embed_dim=width, mlp_dim=4 * width, num_heads=4, head_dim=width // 4
    )
    return FunctionalStudent(dataclasses.replace(cfg, vision=vision, llm=llm))


def test_unrolled_student_as_xla_counts_it():
    student = _student(384)  # tiny presets unroll their loops, so XLA sees every layer
    pairs, frames, clips, tokens = 2, 2, 2, 128

    def run(params, frames, motion, tokens, answers):
        return student.bind(params).forward(frames, motion, tokens, answers).logits

    inputs = (
        student.abstract(),
        shape(pairs, 2, frames, 64, 64, 3, dtype=jnp.uint8),
        shape(pairs, 2, clips, student.cfg.motion_dim),
        shape(pairs, tokens, dtype=jnp.int32),
        shape(pairs, 1, dtype=jnp.int32),
    )
    ours = flops.count(run, *inputs).total
    xla = jax.jit(run).lower(*inputs).cost_analysis()["flops"]
    assert ours < xla < 1.05 * ours  # XLA counts norms, softmax and activations too


@pytest.mark.parametrize("remat", ["none", "full"])
def test_parts_of_a_masks_sequence_execute_what_the_whole_executes(remat):
    spec, text = micro_spec(), shapes.prompt_size(SPEC)
    student = FunctionalStudent(spec.student)
    config = dataclasses.replace(config_of(text), remat=remat, attention="splash")
    sizes = shapes.pair_shape(spec, text, 1, "level", 4096)  # parts of whole blocks
    found = []
    for devices in (1, 2):
        mesh = context_mesh((1, 1, 1), devices)
        given = step.abstract_state(student, config, mesh), shapes.abstract_batch(spec, sizes, mesh)
        found.append(flops.count(step.make_train_step(student, config, mesh), *given).total)
    assert found[1] == pytest.approx(found[0], rel=1e-3)


RULES = {
    "everything": (settings.EVERYTHING, 0, 0.3),
    "authors": ((("vision/*", 0.2), ("*_projector/*", 1.0)), 0, 0.0),
    "projectors": ((("*_projector/*", 1.0),), 0, 0.0),
    "lora": ((("llm/layers/lora_*", 1.0),), 4, 0.0),
    "one late weight": ((("llm/layers/w_up", 1.0),), 0, 0.0),
    "tower's head": ((("severity_*", 1.0),), 0, 0.3),
}


def _step(rules, rank, severity, remat="none"):
    text = shapes.prompt_size(SPEC)
    student = FunctionalStudent(with_additions(SPEC.student, rank))
    config = step.StepConfig(
        optim=settings.OptimConfig(10, 0, 1e-3, 0.05, 1.0, 0.98),
        loss=LossConfig(),
        severity_weight=severity,
        level_ids=text.level_ids,
        level_index=text.level_index,
        trainable=rules,
        remat=remat,
    )
    pairs = shapes.pair_shape(SPEC, text, 2, "sentence")
    mesh = sharding.make_mesh((1, 1, 1), jax.devices()[:1])
    batch = shapes.abstract_batch(SPEC, pairs, mesh)
    state = step.abstract_state(student, config, mesh)
    executed = flops.count(step.make_train_step(student, config, mesh), state, batch).total
    rates = jax.tree_util.tree_leaves_with_path(optim.rates(student.abstract(), rules))
    trained = {"/".join(str(k.key) for k in path) for path, _ in rates}
    model = model_flops.training_flops(student.cfg, pairs, trained.__contains__, bool(severity))
    return student.cfg, pairs, executed, model


def _half_attention(cfg, pairs):
    """Forward FLOPs of the attention scores that the causal mask throws away."""
    llm = cfg.llm
    return 2.0 * pairs.pairs * pairs.tokens**2 * llm.num_heads * llm.head_dim * llm.num_layers


def _pooling(cfg, pairs, gradient):
    """FLOPs of the bilinear pool, which the code writes as products, and of its gradient."""
    frames = 2 * pairs.pairs * pairs.frames
    tokens = shape(frames, cfg.vision.grid**2, cfg.embed_dim)
    if not gradient:
        return flops.count(lambda x: bilinear_pool(x, cfg.vision.grid), tokens).total
    pooled = shape(frames, cfg.vision.token_grid**2, cfg.embed_dim)

    def both(x, cotangent):
        out, backward = jax.vjp(lambda x: bilinear_pool(x, cfg.vision.grid), x)
        return out, backward(cotangent)

    return flops.count(both, tokens, pooled).total


@pytest.mark.parametrize("name", ["everything", "authors", "projectors", "tower's head"])
def test_formula_is_what_an_unmasked_step_without_recomputation_executes(name):
    cfg, pairs, executed, model = _step(*RULES[name])
    through_decoder = name != "tower's head"
    masked_out = _half_attention(cfg, pairs) * (3 if through_decoder else 1)
    expected = model.total + masked_out + _pooling(cfg, pairs, gradient=through_decoder)
    assert executed == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["lora", "one late weight"])
def test_formula_leaves_out_gradients_that_nothing_upstream_needs(name):
    cfg, pairs, executed, model = _step(*RULES[name])
    # Nothing before the decoder is trained. A loop over layers differentiates the first one's
    # products all the same, at most twice its forward; the formula does not.
    masked_out = 3 * _half_attention(cfg, pairs)
    excess = executed - model.total - masked_out - _pooling(cfg, pairs, gradient=False)
    layer = model.forward / cfg.llm.num_layers
    assert 0 < excess < 2 * layer


def test_recomputing_everything_adds_the_layers_forward():
    cfg, pairs, plain, model = _step(*RULES["everything"])
    full = _step(*RULES["everything"], remat="full")[2]
    forward = model.forward + _half_attention(cfg, pairs)
    assert plain + 0.5 * forward < full < plain + forward
