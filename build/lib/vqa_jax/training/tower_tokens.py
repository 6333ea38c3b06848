"""Tokens of a frozen tower for a whole corpus, as a `corpus.sidecar_job`: computed once a video.

    python -m vqa_jax tokens --config small --data DIR

A student whose tower is frozen then trains on tokens, which takes minutes instead of hours.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable

import numpy as np

from vqa_jax.corpus import shards as records
from vqa_jax.corpus import store
from vqa_jax.corpus.sidecar_job import Outcome, Records, Sidecar, SidecarJob
from vqa_jax.devices import programs
from vqa_jax.jobs import files, ranges
from vqa_jax.models.frozen_tower import FrozenTower
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.weights import towers
from vqa_jax.weights.bundle import BundleError, StudentSpec

_VIDEOS_AT_ONCE = 32
_MEASURED = 2000  # videos whose tokens tell means and deviations


def run(
    data: str, spec: StudentSpec, tower: str = "", *, process: int = 0, processes: int = 1
) -> Outcome:
    """Writes the dataset of tokens of a corpus; shards that are done are kept.

    Args:
      data: corpus folder, prepared with the student's preprocessing.
      spec: of the student; its tower is a pretrained one.
      tower: its file, which is put beside the tokens; "" for the shipped one.
      process, processes: this one's number, and how many share the work.

    Raises:
      files.CorpusError: the corpus is incomplete or was prepared for another view.
      BundleError: the student trains its tower.
    """
    if not spec.tower:
        raise BundleError(
            f"{spec.preset}: its tower is trained, so it has no tokens to keep: go on with `train`"
        )
    if records.read_view(data) != spec.preprocess:
        raise files.CorpusError(
            f"{data} was prepared for another view than the student's: prepare it with its config"
        )
    programs.keep()
    student = FunctionalStudent(spec.student)
    if tower:
        with files.replacing(os.path.join(data, towers.TOWER_FILE)) as temporary:
            shutil.copyfile(tower, temporary)
    frozen = FrozenTower.of_student(student, towers.load(student, spec.tower, data))

    def compute(videos: Records) -> Records:
        return _tokens(videos, frozen, spec.tower)

    identity, sizes = {"tower": spec.tower}, ("videos", "tokens")
    sidecar = Sidecar("tokens", "vqa_videos", "vqa_tokens", identity, compute, sizes)
    return SidecarJob(data, sidecar).run(ranges.Share(process, processes))[0]


def _tokens(videos_: Records, tower: FrozenTower, fingerprint: str) -> Records:
    while videos := list(itertools.islice(videos_, _VIDEOS_AT_ONCE)):
        frames = tower(video["frames"] for video in videos)
        for video, tokens in zip(videos, frames, strict=True):
            yield {**video, "frames": tokens, "tower": fingerprint}


def start(
    params: Params, student: FunctionalStudent, tower: str, corpus: store.PairCorpus, like: Params
) -> Params:
    """Fresh parameters behind a pretrained tower, whose tokens are standardized over a corpus.

    Args:
      params: fresh ones.
      student: their architecture.
      tower: fingerprint of the tower.
      corpus: with its tokens, and the tower where it is not the shipped one.
      like: ShapeDtypeStructs of all parameters, with their shardings.
    """
    ids = {pair[side] for pair in corpus.pairs for side in ("first_id", "second_id")}
    found = measured(corpus.videos, ids)
    return towers.begun(params, student, tower, found, like, corpus.root)


def measured(videos: store.VideoStore, ids: Iterable[str]) -> dict[str, np.ndarray]:
    """Mean and deviation [W] of every number of the tokens, over some of the videos."""
    chosen = sorted(ids, key=files.key_hash)[:_MEASURED]
    count, total, squares = 0, 0.0, 0.0
    for key in chosen:
        tokens = videos[key][0]["frames"].astype(np.float64)
        tokens = tokens.reshape(-1, tokens.shape[-1])
        count, total = count + len(tokens), total + tokens.sum(0)
        squares = squares + np.square(tokens).sum(0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    # A number that never changes tells nothing: it stays near 0 instead of blowing up.
    scale = np.maximum(deviation, 1e-3 * max(float(np.median(deviation)), 1e-6))
    return {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
