"""Blocks of a parameter: each part of an array once, within their size."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from vqa_jax.weights import rules, stream
from vqa_jax.weights.reader import Checkpoint
from vqa_jax.weights.rules import Rule

RULES = {
    "stacked linear, two input axes": (
        Rule(("w",), "x.{layer}", "linear", 2),
        (3, 4, 5, 6),
        lambda t: np.stack([one.T.reshape(4, 5, 6) for one in t]),
    ),
    "linear, two output axes": (
        Rule(("w",), "x", "linear"),
        (7, 2, 3),
        lambda t: t[0].T.reshape(7, 2, 3),
    ),
    "conv": (Rule(("w",), "x", "conv"), (3, 3, 2, 5), lambda t: t[0].transpose(2, 3, 1, 0)),
    "stacked copy": (
        Rule(("w",), "x.{layer}"),
        (3, 4, 5),
        lambda t: np.stack([o.reshape(4, 5) for o in t]),
    ),
    "table": (Rule(("w",), "x"), (7, 3), lambda t: t[0]),
    "same": (Rule(("w",), "x", "same"), (3, 4, 5), lambda t: t[0]),
}


@pytest.mark.parametrize("limit", [1, 60, 10**6])
@pytest.mark.parametrize("name", RULES)
def test_blocks_cover_an_array_once_within_their_size(tmp_path, monkeypatch, name, limit):
    monkeypatch.setattr(rules, "BLOCK_BYTES", limit)
    rule, shape, expected = RULES[name]
    rng = np.random.default_rng(1)
    tensors = {k: rng.normal(size=rule.foreign_shape(shape)).astype("f4") for k in rule.keys(shape)}
    save_file(tensors, tmp_path / "w.safetensors")
    whole, count = np.full(shape, np.nan, np.float32), np.zeros(shape, int)
    flat = []
    for where, block in stream.read_blocks(Checkpoint(tmp_path / "w.safetensors"), rule, shape):
        one_row = block.nbytes // block.shape[1 if rule.stacked else 0]
        assert block.nbytes <= max(limit, one_row)
        whole[where] = block
        count[where] += 1
        flat.append(block.ravel())
    want = expected(list(tensors.values()))
    np.testing.assert_array_equal(count, 1)
    np.testing.assert_array_equal(whole, want)
    np.testing.assert_array_equal(np.concatenate(flat), want.ravel())  # in the order of its bytes
