"""The student as a function of a plain parameter tree, which is what jit, optax and Orbax want."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from flax import nnx, traverse_util
from jax.sharding import Mesh

from vqa_jax.devices import sharding
from vqa_jax.devices.execution import Execution, executing
from vqa_jax.models import lora
from vqa_jax.models.student import Student, StudentConfig

Params = dict[str, Any]
HEAD = "severity_"  # what the names of the auxiliary head's parameters begin with


def with_additions(cfg: StudentConfig, lora_rank: int, lora_base: str = "") -> StudentConfig:
    """The config with low-rank additions to the decoder, see `Qwen2Config`; rank 0 has none."""
    llm = dataclasses.replace(cfg.llm, lora_rank=lora_rank, lora_base=lora_base)
    return dataclasses.replace(cfg, llm=llm)


@functools.lru_cache(maxsize=16)
def _described(cfg: StudentConfig) -> tuple[nnx.GraphDef[Student], nnx.State]:
    """A student's structure and abstract parameters; tracing it takes a third of a second."""
    return nnx.split(nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0))))


class FunctionalStudent:
    """Makes, describes and binds the parameters of a Student of one config."""

    def __init__(self, cfg: StudentConfig):
        self.cfg = cfg
        self._graphdef, self._abstract = _described(cfg)

    def init(self, seed: int, run: Execution | None = None) -> Params:
        """Fresh parameters as a nested dict of arrays.

        Args:
          seed: of the numbers, which do not depend on where they are made.
          run: says where; each parameter is made in its shards. None: on one device.
        """
        with executing(run) if run else contextlib.nullcontext():
            return self._drawn(nnx.Rngs(seed))

    def _drawn(self, rngs: nnx.Rngs) -> Params:
        return nnx.to_pure_dict(nnx.state(Student(self.cfg, rngs)))

    def abstract(self) -> Params:
        """The parameters' shapes and dtypes."""
        return nnx.to_pure_dict(self._abstract)

    def shardings(self, mesh: Mesh, rules: sharding.Rules = sharding.LOGICAL_RULES) -> Params:
        """NamedShardings of the parameters on `mesh`, from their logical axis names."""
        return nnx.to_pure_dict(sharding.state_shardings(self._abstract, mesh, rules))

    def placed(self, run: Execution) -> Params:
        """Shape, dtype and sharding of every parameter where `run` computes.

        It is the `like` of what reads weights: each array is streamed to its shards, and no device
        ever holds more than its part.
        """
        if run.mesh is None:
            place = jax.sharding.SingleDeviceSharding(*run.devices)
            return sharding.placed(self.abstract(), place)
        return sharding.placed(self.abstract(), self.shardings(run.mesh, run.rules))

    def complete(self, params: Params, seed: int, like: Params | None = None) -> Params:
        """Parameters from those of a student with other additions or another auxiliary head.

        Args:
          params: of a student that differs in nothing else.
          seed: of what is fresh: what is missing, or of another shape.
          like: ShapeDtypeStructs of the wanted ones, with the sharding where there is one; None:
            all of this student's.
        """
        wanted = traverse_util.flatten_dict(self.abstract() if like is None else like)
        given = traverse_util.flatten_dict(params)
        lacking = {
            path: leaf
            for path, leaf in wanted.items()
            if path not in given or given[path].shape != leaf.shape
        }
        found = {path: given[path] for path in wanted.keys() - lacking.keys()}
        if lacking:

            def fresh(words: jax.Array) -> dict[tuple[str, ...], jax.Array]:
                key = jax.random.wrap_key_data(words)
                drawn = traverse_util.flatten_dict(self._drawn(nnx.Rngs(key)))
                return {path: drawn[path].astype(leaf.dtype) for path, leaf in lacking.items()}

            # Jitted, so that nothing else is ever made, and each where it belongs.
            places = {path: leaf.sharding for path, leaf in lacking.items()}
            words = np.asarray(jax.random.key_data(jax.random.key(seed)))
            found |= jax.jit(fresh, out_shardings=places)(words)
        return traverse_util.unflatten_dict({path: found[path] for path in wanted})

    def merge(self, params: Params, places: Params | None = None) -> Params:
        """Parameters with the low-rank additions, if there are any, summed into their weights.

        Args:
          params: this student's.
          places: shardings of the result; None: whatever follows from those of `params`.
        """
        llm = self.cfg.llm
        if not llm.lora_rank:
            return params
        dtype = self.cfg.compute_dtype
        summed = functools.partial(lora.merge, scale=llm.lora_scale, dtype=dtype)
        return jax.jit(summed, out_shardings=places)(params) if places else summed(params)

    def bind(self, params: Params) -> Student:
        """The module that computes with `params`; cheap, and usable inside jit."""
        state = jax.tree.map(lambda x: x, self._abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self._graphdef, state)
