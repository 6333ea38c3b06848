"""The confidence-weighted loss of method 5, in float32.

L = (1 - l) CE + l H, where CE is the cross-entropy at the answer tokens, H the mean entropy of
the predicted distribution there, and l grows with the student's own certainty.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vqa_jax.pairs.levels import LEVELS
from vqa_jax.settings import LossConfig


def entropy_weight(
    ce: jax.Array, entropy: jax.Array, progress: jax.Array | float, config: LossConfig
) -> jax.Array:
    """Weight l of the entropy term, without gradient.

    Args:
      ce: mean cross-entropy, scalar, nats.
      entropy: mean entropy, scalar, nats.
      progress: share of training done, 0..1.
      config: schedule.

    Returns:
      Scalar float32 in 0..1.
    """
    if not config.confidence:
        return jnp.zeros((), jnp.float32)
    ramp = jnp.minimum(1.0, jnp.asarray(progress, jnp.float32) / config.warmup_share)
    span = config.end_temperature - config.start_temperature
    temperature = config.start_temperature + span * ramp
    # exp(H/T) / (exp(H/T) + exp(CE/T)) overflows at T = 0.1; the sigmoid is the same number.
    alpha = jax.nn.sigmoid((entropy - ce) / temperature)
    return jax.lax.stop_gradient(alpha * ramp)


def _combine(
    ce: jax.Array,
    entropy: jax.Array,
    progress: jax.Array | float,
    config: LossConfig,
    weight: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    if weight is None:
        weight = entropy_weight(ce, entropy, progress, config)
    loss = (1.0 - weight) * ce + weight * entropy
    return loss, {"ce": ce, "entropy": entropy, "weight": weight}


def _token_terms(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities [..., V] and entropies [...] in float32."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    # A logit of -inf (a masked word) has probability 0 and adds 0, not NaN.
    terms = jnp.where(log_probs > -jnp.inf, jnp.exp(log_probs) * log_probs, 0.0)
    return log_probs, -jnp.sum(terms, axis=-1)


def confidence_weighted_loss(
    logits: jax.Array,
    labels: jax.Array,
    progress: jax.Array | float,
    config: LossConfig = LossConfig(),
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of one row of answer tokens with hard labels.

    Args:
      logits: [T, V] at the answer tokens.
      labels: int [T] token ids.
      progress: share of training done, 0..1.
      config: schedule of the entropy term.

    Returns:
      (loss, dict(ce, entropy, weight)), scalars in nats (weight: 0..1).
    """
    log_probs, entropies = _token_terms(jnp.asarray(logits))
    labels = jnp.asarray(labels)
    picked = jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    return _combine(-jnp.mean(picked), jnp.mean(entropies), progress, config)


def pair_loss(
    logits: jax.Array,
    answer_ids: jax.Array,
    loss_mask: jax.Array,
    level_probs: jax.Array,
    level_ids: jax.Array,
    level_index: jax.Array | int,
    example_mask: jax.Array,
    progress: jax.Array | float,
    config: LossConfig = LossConfig(),
    weight: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of a (global) batch of pairs; every mean is over all its unmasked answer tokens.

    Args:
      logits: [B, T, V] at the answer tokens.
      answer_ids: int [B, T] token ids of the answers; anything where masked.
      loss_mask: [B, T] 1 at tokens that count. For the option "level word alone" it is 1 at the
        level word only.
      level_probs: [B, 5] target distribution over the levels; replaces the one-hot of
        `answer_ids` at the level word, and only there.
      level_ids: int [5] token ids of the levels, in the order of `LEVELS`.
      level_index: int or int [B], position of the level word among the T answer tokens.
      example_mask: [B] 0 for padded examples.
      progress: share of training done, 0..1.
      config: schedule of the entropy term.
      weight: l where it is known, as of a part of a batch; None: it follows from this batch.

    Returns:
      (loss, dict(ce, entropy, weight, level_acc)), float32 scalars. level_acc is the share of
      examples whose most probable level is the target's most probable one.
    """
    batch, num_tokens = answer_ids.shape
    if level_probs.shape != (batch, len(LEVELS)):
        raise ValueError(f"level_probs must be [{batch}, {len(LEVELS)}]: {level_probs.shape}")
    log_probs, entropies = _token_terms(logits)
    hard = -jnp.take_along_axis(log_probs, answer_ids[..., None], axis=-1)[..., 0]

    level_index = jnp.broadcast_to(jnp.asarray(level_index), (batch,))
    at_level = jnp.take_along_axis(log_probs, level_index[:, None, None], axis=1)[:, 0]
    level_log_probs = jnp.take(at_level, jnp.asarray(level_ids), axis=-1)
    level_probs = level_probs.astype(jnp.float32)
    # 0 * -inf must stay 0: a level without target probability adds nothing.
    soft = -jnp.sum(jnp.where(level_probs > 0, level_probs * level_log_probs, 0.0), axis=-1)
    is_level = jnp.arange(num_tokens)[None, :] == level_index[:, None]
    cross_entropies = jnp.where(is_level, soft[:, None], hard)

    examples = example_mask.astype(jnp.float32)
    mask = loss_mask.astype(jnp.float32) * examples[:, None]
    count = jnp.maximum(jnp.sum(mask), 1.0)
    # `where` and not a product: a masked position may hold infinities or NaN.
    ce = jnp.sum(jnp.where(mask > 0, cross_entropies * mask, 0.0)) / count
    entropy = jnp.sum(jnp.where(mask > 0, entropies * mask, 0.0)) / count
    loss, metrics = _combine(ce, entropy, progress, config, weight)

    right = jnp.argmax(level_log_probs, axis=-1) == jnp.argmax(level_probs, axis=-1)
    metrics["level_acc"] = jnp.sum(right * examples) / jnp.maximum(jnp.sum(examples), 1.0)
    return loss, metrics
