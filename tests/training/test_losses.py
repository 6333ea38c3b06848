"""The confidence-weighted loss against goldens and a plain numpy version."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.fixtures.tolerances import TOLERANCES
from vqa_jax import settings
from vqa_jax.training import losses

LEVEL_IDS = np.array([3, 7, 1, 9, 4])


def _batch(seed=0, batch=3, num_tokens=4, vocab=12):
    rng = np.random.default_rng(seed)
    level_index = np.array([1, 2, 1])
    target = np.array([0, 3, 4])
    answer_ids = rng.integers(0, vocab, (batch, num_tokens))
    answer_ids[np.arange(batch), level_index] = LEVEL_IDS[target]
    mask = np.ones((batch, num_tokens))
    mask[0, 3] = 0
    return dict(
        logits=(3 * rng.normal(size=(batch, num_tokens, vocab))).astype(np.float32),
        answer_ids=answer_ids,
        loss_mask=mask,
        level_probs=np.eye(5, dtype=np.float32)[target],
        level_ids=LEVEL_IDS,
        level_index=level_index,
        example_mask=np.array([1, 1, 1]),
    )


def test_matches_goldens(shared):
    cases = json.loads((shared / "golden/math/confidence_loss.json").read_text())
    for case in cases:
        loss, parts = losses.confidence_weighted_loss(
            np.asarray(case["logits"]), np.asarray(case["labels"]), case["progress"]
        )
        got = [loss, parts["ce"], parts["entropy"], parts["weight"]]
        want = [case[k] for k in ("loss", "ce", "entropy", "weight")]
        np.testing.assert_allclose(got, want, **TOLERANCES["scores_and_losses"])


def test_batch_form_with_hard_labels_is_the_loss_of_its_unmasked_tokens():
    batch = _batch()
    keep = batch["loss_mask"] > 0
    want, parts = losses.confidence_weighted_loss(
        batch["logits"][keep], batch["answer_ids"][keep], 0.4
    )
    got, batch_parts = losses.pair_loss(**batch, progress=0.4)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(batch_parts["entropy"], parts["entropy"], rtol=1e-6)


def test_padded_examples_change_nothing_even_with_nan_logits():
    batch = _batch()
    want, want_parts = losses.pair_loss(**batch, progress=0.7)
    padded = {k: v if k == "level_ids" else np.concatenate([v, v[:1]]) for k, v in batch.items()}
    padded["logits"][3] = np.nan
    padded["example_mask"] = np.array([1, 1, 1, 0])
    got, got_parts = losses.pair_loss(**padded, progress=0.7)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(got_parts["level_acc"], want_parts["level_acc"])


def test_soft_labels_count_at_the_level_word_only():
    batch = _batch()
    batch["level_probs"] = np.array(
        [[0.6, 0.4, 0, 0, 0], [0, 0, 0.2, 0.5, 0.3], [0, 0, 0, 0, 1]], np.float32
    )
    log_probs = np.asarray(jax.nn.log_softmax(batch["logits"], -1), np.float64)
    total = 0.0
    for b in range(3):
        for t in range(4):
            if t == batch["level_index"][b]:
                total -= batch["level_probs"][b] @ log_probs[b, t, LEVEL_IDS]
            else:
                total -= batch["loss_mask"][b, t] * log_probs[b, t, batch["answer_ids"][b, t]]
    _, parts = losses.pair_loss(**batch, progress=0.0)
    np.testing.assert_allclose(parts["ce"], total / 11, rtol=1e-5)


def test_no_gradient_through_the_weight_and_none_at_masked_tokens():
    batch = _batch()
    # Small logits: CE and H are close, so the weight is not saturated and would have a gradient.
    logits = jnp.asarray(0.1 * batch.pop("logits"))

    def loss(x):
        return losses.pair_loss(x, **batch, progress=1.0)[0]

    def frozen(x):
        weight = losses.pair_loss(logits, **batch, progress=1.0)[1]["weight"]
        parts = losses.pair_loss(x, **batch, progress=1.0)[1]
        return (1 - weight) * parts["ce"] + weight * parts["entropy"]

    assert 0.1 < losses.pair_loss(logits, **batch, progress=1.0)[1]["weight"] < 0.9
    gradient = jax.grad(loss)(logits)
    np.testing.assert_allclose(gradient, jax.grad(frozen)(logits), atol=1e-7)
    assert np.abs(gradient[0, 3]).max() == 0
    assert np.abs(gradient[0, 2]).max() > 0


def test_confident_wrong_answers_stay_finite():
    logits = np.full((2, 6), -3e4, np.float32)
    logits[:, 0] = 3e4
    loss, parts = losses.confidence_weighted_loss(logits, np.array([1, 2]), 1.0)
    assert np.isfinite(loss)
    assert parts["weight"] == 0
    low = losses.confidence_weighted_loss(jnp.asarray(logits, jnp.bfloat16), np.array([0, 0]), 1.0)
    assert low[0].dtype == jnp.float32


def test_without_confidence_it_is_cross_entropy():
    batch = _batch()
    loss, parts = losses.pair_loss(
        **batch, progress=1.0, config=settings.LossConfig(confidence=False)
    )
    assert loss == parts["ce"]
    with pytest.raises(ValueError, match="warmup_share"):
        settings.LossConfig(warmup_share=0)
