"""Where a run's first state comes from: a checkpoint, another student's folder, or a seed.

Every array goes, or is made, straight to the shards in which training keeps it: no device and no
process ever holds the whole student.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import traverse_util
from jax.sharding import Mesh

from vqa_jax.corpus import store
from vqa_jax.models.functional import FunctionalStudent, Params, with_additions
from vqa_jax.models.student import StudentConfig
from vqa_jax.settings import TrainConfig
from vqa_jax.training import checkpoint, local_copies, optim, tower_tokens
from vqa_jax.training import step as step_lib
from vqa_jax.weights import bundle

# A student may start from one that is stored, computed or run otherwise, or has another head.
_MAY_DIFFER = {
    *("num_severity_classes", "param_dtype", "compute_dtype"),
    *("vision.unroll", "llm.unroll"),
}


def as_given(spec: bundle.StudentSpec, folder: str) -> bundle.StudentSpec:
    """A preset's spec with the rotary base of the student in `folder`, with which its weights go.

    Releases of one decoder differ in it: Qwen3-4B has 10^6, Qwen3-VL-4B's language part 5 10^6.

    Args:
      spec: of a run.
      folder: the student that it starts from; "": there is none.
    """
    if not folder:
        return spec
    theta = bundle.load_spec(folder).student.llm.rope_theta
    llm = dataclasses.replace(spec.student.llm, rope_theta=theta)
    return dataclasses.replace(spec, student=dataclasses.replace(spec.student, llm=llm))


@dataclasses.dataclass(frozen=True)
class Start:
    """The start of a run.

    Attributes:
      config: the run.
      spec: its student, as it will be written.
      student: the same with the additions that are trained.
      step_config: what a step computes.
      mesh: the devices.
      corpus: over which a fresh student behind a pretrained tower standardizes its tokens.
    """

    config: TrainConfig
    spec: bundle.StudentSpec
    student: FunctionalStudent
    step_config: step_lib.StepConfig
    mesh: Mesh
    corpus: store.PairCorpus

    def state(
        self, checkpoints: checkpoint.Checkpointer, copies: local_copies.LocalCopies | None = None
    ) -> step_lib.TrainState:
        """The newest checkpoint's state, that of newer copies, or a fresh one, on the mesh.

        Raises:
          bundle.BundleError: `init_from` is damaged or another architecture.
          checkpoint.CheckpointError: a checkpoint cannot be read.
        """
        trainable = self.step_config.trainable
        abstract = step_lib.abstract_state(self.student, self.step_config, self.mesh)
        newest = (copies.latest_step() or 0) if copies else 0
        if copies and newest > (checkpoints.latest_step() or 0):
            saved = copies.restore()
        else:
            saved = checkpoints.restore(step_lib.kept(abstract, trainable))
        if saved is None:
            params = self._params(abstract["params"], abstract["params"])
            shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
            return step_lib.state_of_params(params, self.step_config, shardings)
        frozen = optim.split(abstract["params"], trainable)[1]
        params = self._params(abstract["params"], frozen) if frozen else {}
        going = jax.device_put(False, abstract["stopped"].sharding)
        return {**saved, "stopped": going, "params": optim.join(saved["params"], params)}

    def _params(self, whole: Params, wanted: Params) -> Params:
        """First values of the wanted part of the parameters `whole`, placed as they say."""
        if self.config.init_from:
            return self._given(whole, wanted)
        params = self.student.init(self.config.seed, self.step_config.execution(self.mesh))
        if self.spec.tower:
            params = tower_tokens.start(params, self.student, self.spec.tower, self.corpus, whole)
        drawn = traverse_util.flatten_dict(params)
        leaves = traverse_util.flatten_dict(wanted)
        return traverse_util.unflatten_dict(
            {path: drawn[path].astype(leaf.dtype) for path, leaf in leaves.items()}
        )

    def _given(self, whole: Params, wanted: Params) -> Params:
        """Weights of the student in `init_from`; additions and another head are fresh."""
        folder, seed = self.config.init_from, self.config.seed
        cfg = _checked(folder, bundle.load_spec(folder), self.spec)
        given = FunctionalStudent(with_additions(cfg, 0, self.config.lora_base))
        like = traverse_util.flatten_dict(given.abstract())
        places = traverse_util.flatten_dict(whole)
        fits = {path for path in like if path in places and places[path].shape == like[path].shape}
        like |= {path: places[path] for path in fits}
        names = {
            "/".join(map(str, path)) for path in fits & traverse_util.flatten_dict(wanted).keys()
        }
        params = bundle.load_params(
            folder, given, traverse_util.unflatten_dict(like), names.__contains__
        )
        return self.student.complete(params, seed, wanted)


def _checked(folder: str, given: bundle.StudentSpec, wanted: bundle.StudentSpec) -> StudentConfig:
    """Architecture of the student in `folder`, if training can go on from it."""
    both = [_plain(spec.student) for spec in (given, wanted)]
    problems = [f"{k} {v}, not {both[1].get(k)}" for k, v in both[0].items() if v != both[1].get(k)]
    if given.tower != wanted.tower:
        problems.append(f"tower {given.tower or 'of its own'}, not {wanted.tower or 'of its own'}")
    if problems:
        raise bundle.BundleError(
            f"{folder} is another student than {wanted.preset}: {'; '.join(problems)}: name the "
            "configuration of its size"
        )
    return given.student


def _plain(cfg: StudentConfig) -> dict[str, Any]:
    told = traverse_util.flatten_dict(dataclasses.asdict(cfg), sep=".")
    return {name: value for name, value in told.items() if name not in _MAY_DIFFER}
