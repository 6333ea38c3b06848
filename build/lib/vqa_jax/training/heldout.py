"""What a student in training says of pairs that it is not trained on.

The pairs are those of the corpus's held-out sources; each is asked about in both orders, by the
network as training runs it, on its mesh.
"""

from __future__ import annotations

import contextlib
import dataclasses

import jax
import numpy as np
from jax.sharding import Mesh

from vqa_jax.corpus import store
from vqa_jax.devices import sharding
from vqa_jax.jobs.files import CorpusError, key_hash
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.pairs import levels
from vqa_jax.settings import TrainConfig
from vqa_jax.training import input_pipeline
from vqa_jax.training import step as step_lib
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.weights.bundle import StudentSpec


class Heldout:
    """Held-out pairs of a run, chosen once, and the program that asks about them."""

    def __init__(
        self,
        config: TrainConfig,
        spec: StudentSpec,
        student: FunctionalStudent,
        step_config: step_lib.StepConfig,
        mesh: Mesh,
        data: str,
        geometry: PromptGeometry,
    ):
        """Chooses `config.heldout_pairs` pairs by the hash of their keys.

        Args:
          config: the run.
          spec: its student.
          student: the same with the additions that are trained.
          step_config: what a step computes.
          mesh: the devices.
          data: corpus folder.
          geometry: prompts and tokens per frame.

        Raises:
          CorpusError: the corpus holds out no pairs.
        """
        # As many rows as training has, each a pair by itself.
        rows = config.input.num_groups
        inputs = dataclasses.replace(config.input, batch_size=rows, group_size=1)
        corpus = store.PairCorpus(data, [], "heldout", spec.extractor, spec.tower)
        for name in config.pair_datasets:
            corpus.pairs += store.heldout_pairs(data, name)
        if not corpus.pairs:
            raise CorpusError(
                f"{data}: {', '.join(config.pair_datasets)} hold out no pairs: set "
                "train.heldout_pairs=0, or prepare with more held-out sources"
            )
        corpus.pairs.sort(key=lambda pair: key_hash(pair["pair_id"]))
        del corpus.pairs[config.heldout_pairs :]
        self._pairs, self._rows, self._mesh = len(corpus.pairs), rows, mesh
        clips, mine = spec.preprocess.max_clips, sharding.process_rows(rows, mesh)
        self._batches = input_pipeline.ordered_batches(corpus, inputs, geometry, clips, mine)
        self._step = step_lib.make_eval_step(student, step_config, mesh)

    def __call__(self, params: Params) -> dict[str, float]:
        """Metrics of a training state's parameters; every process must call it.

        Returns:
          heldout/loss: cross-entropy, nats. heldout/level_acc: share of the pairs, in either order,
          whose most probable level is the label's. heldout/order_consistency: share of the pairs
          of which both orders prefer the same video. heldout/order_acc: share of the pairs with a
          better video that is preferred, both orders averaged; a tie is wrong.
        """
        said: list[dict[str, np.ndarray]] = []
        batches = input_pipeline.device_batches(self._batches, self._mesh, self._rows)
        with contextlib.closing(batches):
            for number, batch in enumerate(batches):
                left = self._pairs - number // 2 * self._rows
                real = np.arange(self._rows) < left  # the rest fills the batch up
                mine = sharding.process_rows(self._rows, self._mesh)
                mask = {"example_mask": real[mine].astype(np.float32)}
                batch |= sharding.put_batch(mask, self._mesh, self._rows)
                found = jax.device_get(self._step(params, batch))
                by_pair = {k: found[k][real] for k in ("level_logits", "level_probs")}
                said.append({**found, **by_pair})
        return _summary(said)


def _summary(said: list[dict[str, np.ndarray]]) -> dict[str, float]:
    counts = [float(batch["pairs"]) for batch in said]
    means = {
        name: float(np.average([batch[name] for batch in said], weights=counts))
        for name in ("loss", "level_acc")
    }
    forward, backward = (
        np.concatenate([batch["level_logits"] for batch in said[turned::2]]) for turned in (0, 1)
    )
    labels = np.concatenate([batch["level_probs"] for batch in said[::2]])
    sides = levels.preference(forward) > 0.5, levels.preference(backward) > 0.5
    better = np.sign(np.round(labels @ np.asarray(levels.LEVEL_WEIGHTS) - 0.5, 6))
    preferred = np.sign(levels.order_consistent(forward, backward) - 0.5)
    ordered = better != 0
    means["order_consistency"] = float(np.mean(sides[0] != sides[1]))
    if ordered.any():
        means["order_acc"] = float(np.mean((preferred == better)[ordered]))
    return {f"heldout/{name}": value for name, value in means.items()}
