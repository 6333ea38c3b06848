"""A corpus in one small file: tokens by their principal directions, motion features, pairs.

A frozen tower's tokens are 4,128 numbers of which few hundred directions hold nearly all that
varies. A file keeps as many as fit, a byte a coefficient: token = mean + coefficients @ rows. It
reads with NumPy and JAX alone and stands where `corpus.store.PairCorpus` stands in training.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqa_jax.settings import TrainConfig
from vqa_jax.training import sampling
from vqa_jax.weights.bundle import StudentSpec

_LABELS = ("label_probs", "normalized_margin", "source")
_TOKENS_AT_ONCE = 8192


@dataclasses.dataclass(frozen=True)
class Packed:
    """What a packed file holds, tokens made whole; see `examples.Corpus`.

    Attributes:
      root: path of the file.
      config: of the run.
      spec: of its student.
      index: what the sampler needs of the pairs.
      images: bool [pairs], which are of two still pictures.
      mean, scale: float32 [W] of the tokens over the corpus.
      rows: float32 [K, W], principal directions of the tokens, in their units.
      videos, pairs: as training reads them.
    """

    root: str
    config: TrainConfig
    spec: StudentSpec
    index: sampling.PairIndex
    images: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    rows: np.ndarray
    videos: Videos
    pairs: Pairs

    @property
    def facts(self) -> dict[str, int]:
        """What a student's file tells of it."""
        return {"pairs": len(self.pairs), "directions": len(self.rows)}

    @classmethod
    def read(cls, path: str) -> Packed:
        """Reads a file of `pack.pack`."""
        with np.load(path, allow_pickle=False) as stored:
            part = dict(stored)
        told = json.loads(part["told"].tobytes())
        spec = StudentSpec.from_dict(told["spec"], path)
        mean, scale, rows = (part[k].astype(np.float32) for k in ("mean", "scale", "rows"))
        tokens = _restored(part["coefficients"], mean, rows)
        first, second = (part[k].astype(np.int64) for k in ("first", "second"))
        return cls(
            path,
            TrainConfig.from_dict(told["config"]),
            spec,
            sampling.PairIndex(first, second, part["bucket"].astype(np.int64)),
            part["images"],
            mean,
            scale,
            rows,
            Videos(part, tokens, told["simulators"], spec),
            Pairs(first, second, *(part[k] for k in _LABELS), told["sources"]),
        )


def _restored(coefficients: np.ndarray, mean: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Tokens float16 [N, P, W] of coefficients [N, P, K]: a teraflop, so it is the device's."""
    flat = coefficients.reshape(-1, len(rows))
    found = np.empty((len(flat), len(mean)), np.float16)
    rows, mean = jax.device_put((rows, mean))
    for start in range(0, len(found), _TOKENS_AT_ONCE):
        piece = slice(start, start + _TOKENS_AT_ONCE)
        found[piece] = _tokens(flat[piece], rows, mean)
    return found.reshape(*coefficients.shape[:2], len(mean))


@jax.jit
def _tokens(coefficients: jax.Array, rows: jax.Array, mean: jax.Array) -> jax.Array:
    """[N, W] of coefficients [N, K] in float32, which GPUs otherwise round; processors without
    half precision have no program that ends in it."""
    return jnp.matmul(coefficients.astype(jnp.float32), rows, precision="highest") + mean


class Videos:
    """Number of a video -> (record, motion features)."""

    def __init__(
        self,
        part: Mapping[str, np.ndarray],
        tokens: np.ndarray,
        simulators: Sequence[str],
        spec: StudentSpec,
    ):
        """Takes the arrays of a file, and its tokens [N, P, W] made whole."""
        self._tokens, self._simulators = tokens, simulators
        self._ends = {name: np.append(0, np.cumsum(part[name])) for name in ("frames", "clips")}
        self._motion, self._level, self._simulator = (
            part[name] for name in ("motion", "level", "simulator")
        )
        self._preprocess = spec.preprocess.to_json()

    def __getitem__(self, number: int) -> tuple[dict[str, Any], np.ndarray]:
        """One video; a still picture has one clip of zeros."""
        frames, clips = (slice(*self._ends[k][number : number + 2]) for k in ("frames", "clips"))
        motion = self._motion[clips].astype(np.float32)
        if not len(motion):
            motion = np.zeros((1, motion.shape[1]), np.float32)
        record = {
            "frames": self._tokens[frames],
            "preprocess": self._preprocess,
            "level": int(self._level[number]),
            "simulator": self._simulators[self._simulator[number]],
        }
        return record, motion


@dataclasses.dataclass(frozen=True)
class Pairs(Sequence[dict[str, Any]]):
    """Pairs by number.

    Attributes:
      first, second: int [n], numbers of their videos.
      label_probs: [n, 5].
      normalized_margin: [n].
      source: int [n], places in `sources`.
      sources: label sources.
    """

    first: np.ndarray
    second: np.ndarray
    label_probs: np.ndarray
    normalized_margin: np.ndarray
    source: np.ndarray
    sources: Sequence[str]

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """One pair; IndexError ends a loop."""
        return {
            "first_id": int(self.first[number]),
            "second_id": int(self.second[number]),
            "label_source": self.sources[self.source[number]],
            "level_probs": self.label_probs[number].astype(np.float32),
            "normalized_margin": float(self.normalized_margin[number]),
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[k] for k in range(len(self)))
