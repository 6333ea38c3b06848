"""What is trained, and AdamW with warm-up and cosine decay over it (method 6)."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vqa_jax.errors import VqaError
from vqa_jax.settings import OptimConfig, Trainable

Tree = Mapping[str, Any]


class TrainableError(VqaError, ValueError):
    """The rules of what is trained do not fit the student; the message names rules and leaves."""


def learning_rate(config: OptimConfig) -> optax.Schedule:
    """Linear warm-up to `peak_lr`, then cosine decay to zero at `total_steps`."""
    if not config.warmup_steps:  # a ramp of no steps, of which optax warns every time
        return optax.cosine_decay_schedule(config.peak_lr, config.total_steps)
    return optax.warmup_cosine_decay_schedule(
        0.0, config.peak_lr, config.warmup_steps, config.total_steps
    )


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)


def rates(params: Tree, rules: Trainable) -> Any:
    """Factor on the learning rate of every leaf; None for frozen ones.

    Args:
      params: nested dict of arrays or ShapeDtypeStructs.
      rules: (pattern of paths such as "vision/*", factor); what no pattern matches is frozen.

    Returns:
      Tree as `params`.

    Raises:
      TrainableError: a pattern that matches nothing, a leaf with two different factors, a factor
        that is not positive, or nothing to train.
    """
    used: dict[str, int] = dict.fromkeys((pattern for pattern, _ in rules), 0)
    problems = [f"{pattern}: {rate} is not positive" for pattern, rate in rules if not rate > 0]

    def one(path: tuple[Any, ...], leaf: Any) -> float | None:
        name, found = _name(path), {}
        for pattern, rate in rules:
            if fnmatch.fnmatchcase(name, pattern):
                used[pattern] += 1
                found[rate] = pattern
        if len(found) > 1:
            problems.append(f"{name} has rates {sorted(found)} by {sorted(found.values())}")
        if found and getattr(leaf, "dtype", None) == jnp.int8:
            problems.append(f"{name} is kept in int8, in which nothing is trained")
        return next(iter(found), None)

    tree = jax.tree_util.tree_map_with_path(one, params)
    problems += [f"{pattern} matches no parameter" for pattern, count in used.items() if not count]
    if problems or not rules:
        text, parts = "; ".join(problems or ["no rules"]), ", ".join(sorted(params))
        raise TrainableError(f"trainable: {text} (parts of the student: {parts})")
    return tree


def trained_paths(params: Tree, rules: Trainable) -> frozenset[str]:
    """Paths, as "llm/layers/wq", of the parameters that have a rate."""
    rated = jax.tree_util.tree_leaves_with_path(rates(params, rules))
    return frozenset(_name(path) for path, _ in rated)  # None is no leaf of a tree


def split(params: Tree, rules: Trainable) -> tuple[dict[str, Any], dict[str, Any]]:
    """(trained, frozen) parts of a tree; each is the nested dict without the other's leaves."""
    factors = rates(params, rules)

    def part(tree: Tree, factor: Tree, trained: bool) -> dict[str, Any]:
        out = {}
        for key, value in tree.items():
            if isinstance(value, Mapping):
                inner = part(value, factor[key], trained)
                out |= {key: inner} if inner else {}
            elif (factor[key] is not None) == trained:
                out[key] = value
        return out

    return part(params, factors, True), part(params, factors, False)


def join(trained: Tree, frozen: Tree) -> dict[str, Any]:
    """Inverse of `split`."""
    out = dict(frozen)
    for key, value in trained.items():
        out[key] = join(value, frozen.get(key, {})) if isinstance(value, Mapping) else value
    return out


def scaled(updates: Tree, factors: Tree) -> dict[str, Any]:
    """Updates times the factors of their leaves: the same as that factor on the learning rate."""
    return {
        key: scaled(value, factors[key])
        if isinstance(value, Mapping)
        else (value if factors[key] == 1.0 else value * factors[key])
        for key, value in updates.items()
    }


def decay_mask(params: Any) -> Any:
    """True for matrices; norms, biases, positions and the newline token are not decayed.

    Names tell them apart: stacked layers add an axis, so rank alone does not.
    """

    def is_matrix(path: tuple[Any, ...], _: Any) -> bool:
        name = str(path[-1].key)
        matrix = name.startswith(("w", "lora_")) or name.endswith("kernel")
        return matrix or name in ("embedding", "head")

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def make_optimizer(config: OptimConfig) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW."""
    return optax.chain(
        optax.clip_by_global_norm(config.grad_clip),
        optax.adamw(
            learning_rate(config), b2=config.b2, weight_decay=config.weight_decay, mask=decay_mask
        ),
    )
