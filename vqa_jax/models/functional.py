"""The student as a function of a plain parameter tree, which is what jit, optax and Orbax want."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from vqa_jax.devices import sharding
from vqa_jax.devices.execution import Execution
from vqa_jax.models import lora
from vqa_jax.models.student import Student, StudentConfig

Params = dict[str, Any]
HEAD = "severity_"  # what the names of the auxiliary head's parameters begin with


def with_additions(cfg: StudentConfig, lora_rank: int) -> StudentConfig:
    """The config with low-rank additions to the decoder; rank 0 has none."""
    return dataclasses.replace(cfg, llm=dataclasses.replace(cfg.llm, lora_rank=lora_rank))


class FunctionalStudent:
    """Makes, describes and binds the parameters of a Student of one config."""

    def __init__(self, cfg: StudentConfig):
        self.cfg = cfg
        abstract = nnx.eval_shape(lambda: Student(cfg, nnx.Rngs(0)))
        self._graphdef, self._abstract = nnx.split(abstract)

    def init(self, seed: int) -> Params:
        """Fresh parameters as a nested dict of arrays."""
        student = Student(self.cfg, nnx.Rngs(seed))
        return nnx.to_pure_dict(nnx.state(student))

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

    def attach(self, params: Params, seed: int) -> Params:
        """Parameters of a student without low-rank additions, with fresh ones if it has any."""
        if not self.cfg.llm.lora_rank:
            return params
        # Jitted, so that nothing but the additions is ever made.
        fresh = jax.jit(lambda: lora.additions(self.init(seed)))()
        return lora.attach(params, fresh)

    def fit_head(self, params: Params, seed: int) -> Params:
        """Parameters whose auxiliary head is this config's: left out, kept, or fresh.

        Args:
          params: of a student that differs in nothing but the head.
          seed: of a fresh head.
        """
        wanted = {k: v.shape for k, v in self.abstract().items() if k.startswith(HEAD)}
        given = {k: v.shape for k, v in params.items() if k.startswith(HEAD)}
        if given == wanted:
            return params
        rest = {k: v for k, v in params.items() if k not in given}
        # Jitted, so that nothing but the head is ever made.
        return rest | jax.jit(lambda: {k: self.init(seed)[k] for k in wanted})()

    def merge(self, params: Params) -> Params:
        """Parameters with the low-rank additions, if there are any, summed into their weights."""
        llm = self.cfg.llm
        return lora.merge(params, llm.lora_scale) if llm.lora_rank else params

    def bind(self, params: Params) -> Student:
        """The module that computes with `params`; cheap, and usable inside jit."""
        state = jax.tree.map(lambda x: x, self._abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self._graphdef, state)
