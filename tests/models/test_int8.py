"""Dense layers in int8 against NumPy's whole numbers."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import traverse_util

from tests.fixtures import micro_student
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.models import int8, layers, lora, siglip
from vqa_jax.models.functional import FunctionalStudent

RNG = np.random.default_rng(0)


def _reference(values, axes):
    """Codes int64 and steps float64 as the page says them."""
    largest = np.abs(values.astype(np.float64)).max(axes, keepdims=True)
    steps = np.where(largest > 0, largest, 1) / 127
    return np.rint(values / steps).astype(np.int64), steps


@pytest.mark.parametrize(
    ("equation", "left", "right", "inputs"),
    [
        ("bld,dqe->blqe", (2, 3, 300), (300, 4, 5), 1),
        ("blqe,qed->bld", (2, 3, 6, 50), (6, 50, 7), 2),
        ("nd,di->ni", (5, 300), (300, 9), 1),
    ],
)
def test_products_are_those_of_whole_numbers(equation, left, right, inputs):
    x, weight = (RNG.normal(size=shape).astype(np.float32) for shape in (left, right))
    x[0] *= 1000  # large tokens do not touch the others
    codes, steps = int8.quantized_weight(weight[None], inputs)
    found = layers.dense(equation, x, {"w": codes[0], "w_steps": steps[0]}, "w")
    own, own_steps = _reference(x, tuple(range(x.ndim - inputs, x.ndim)))
    theirs, their_steps = _reference(weight, tuple(range(inputs)))
    for as_floats in (False, True):
        sums = int8.whole_sums(equation, own.astype(np.int8), codes[0], as_floats)
        assert sums.dtype == (np.float32 if as_floats else np.int32)
        np.testing.assert_array_equal(sums, np.einsum(equation, own, theirs))
    np.testing.assert_array_equal(codes[0], theirs)
    scale = own_steps.reshape(*left[:-inputs], *[1] * (weight.ndim - inputs)) * their_steps.reshape(
        right[inputs:]
    )
    np.testing.assert_allclose(
        found, np.einsum(equation, own, theirs) * scale, **TOLERANCES["direct_sum"]
    )
    exact = np.einsum(equation, x, weight)
    assert np.abs(found - exact)[1:].max() < 0.1 * exact[1:].std()
    plain = layers.dense(equation, x, {"w": weight}, "w")
    np.testing.assert_allclose(plain, exact, **TOLERANCES["direct_sum"])


def test_codes_stay_within_half_a_step():
    for scale in (1e-30, 1e-3, 1.0, 1e30):
        values = (scale * RNG.standard_t(2, (3, 40, 8))).astype(np.float32)
        codes, steps = (np.asarray(x) for x in int8.quantized(values, (1,)))
        assert codes.dtype == np.int8 and steps.shape == (3, 8)
        assert (np.abs(codes.astype(int)).max(1) == 127).all()  # -128 is never used
        error = np.abs(codes * steps[:, None].astype(np.float64) - values)
        assert (error <= 0.5001 * steps[:, None]).all()
    codes, steps = int8.quantized(np.zeros((2, 3), np.float32), (1,))
    assert not np.asarray(codes).any() and np.isfinite(steps).all()


@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_student_has_codes_and_steps_in_its_layers_alone(qk_norm):
    llm = dataclasses.replace(micro_student.MICRO.llm, qk_norm=qk_norm)
    cfg = dataclasses.replace(
        micro_student.MICRO, llm=llm, param_dtype="int8", compute_dtype="bfloat16"
    )
    leaves = traverse_util.flatten_dict(FunctionalStudent(cfg).abstract(), sep="/")
    whole = {name for name, leaf in leaves.items() if leaf.dtype == np.int8}
    wanted = {f"llm/layers/{name}" for name in lora.TARGETS}
    wanted |= {f"vision/layers/{name}" for name in siglip.INPUT_AXES}
    assert whole == wanted
    steps = {name for name, leaf in leaves.items() if leaf.dtype == np.float32}
    assert steps == {int8.steps_of(name) for name in whole}
    plain = FunctionalStudent(dataclasses.replace(cfg, param_dtype="bfloat16"))
    assert len(jax.tree.leaves(plain.abstract())) == len(leaves) - len(steps)
