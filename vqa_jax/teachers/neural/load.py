"""The neural teachers on devices: weights of the registry -> scores of videos.

Clips of several videos share batches of one fixed size, so that a program is compiled once, and a
batch is divided among the devices. A video's score does not depend on what it is batched with.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vqa_jax.devices import programs
from vqa_jax.jobs.files import file_sha256
from vqa_jax.media.probe import VideoInfo
from vqa_jax.motion import weights as slowfast
from vqa_jax.teachers import looks
from vqa_jax.teachers.cards import VideoTeacher, built_in, check
from vqa_jax.teachers.known import BUILT_IN, LIGHT
from vqa_jax.teachers.light import features
from vqa_jax.teachers.light import teacher as light_teacher
from vqa_jax.teachers.neural import dover, fast_vqa, minimalistic, weights
from vqa_jax.teachers.neural.level_prompt import LevelPromptTeacher
from vqa_jax.teachers.views import View

_VERSION = "2"  # part of fingerprints: raise it when the same files give other scores
_CLIP_FRAMES = 32
_OF_CLIPS = ("fragments_4", "fragments_3", "aesthetic", "motion")  # views


class Batched:
    """A network as a function of any number of inputs, computed in batches of one size."""

    def __init__(self, network: nnx.Module, batch_size: int, devices: Sequence[jax.Device]):
        graphdef, state = nnx.split(network)
        mesh = Mesh(np.array(devices), ("data",))
        self._inputs = NamedSharding(mesh, PartitionSpec("data"))
        self._state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        self._size = batch_size * len(devices)
        self._call = jax.jit(lambda state, *inputs: nnx.merge(graphdef, state)(*inputs))

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        """Arrays [n, ...] -> float32 [n] or, of a network of features, [n, D]."""
        parts = []
        for start in range(0, len(inputs[0]), self._size):
            batch = [x[start : start + self._size] for x in inputs]
            count = len(batch[0])
            batch = [
                np.concatenate([x, np.zeros((self._size - count, *x.shape[1:]), x.dtype)])
                for x in batch
            ]
            scores = self._call(self._state, *jax.device_put(batch, self._inputs))
            parts.append(np.asarray(scores)[:count])
        return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class NeuralTeacher:
    """Networks, the views that they take, and how their outputs become a video's score.

    Attributes:
      name, fingerprint, higher_is_better: see `cards.VideoTeacher`.
      networks: (names of views in `looks.VIEWS`, network) each; a network maps their arrays
        [n, ...] to scores [n].
      combine: means of the networks' outputs over a video -> its score.
    """

    name: str
    fingerprint: str
    networks: tuple[tuple[tuple[str, ...], Callable[..., np.ndarray]], ...]
    combine: Callable[..., float] = float
    higher_is_better: bool = True

    def views(self, info: VideoInfo, seed: int) -> Mapping[str, View]:
        """As `VideoTeacher.views`."""
        return {name: looks.VIEWS[name](info, seed) for name in looks.LOOKS[self.name]}

    def reduce(self, cuts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The views, those of clips as uint8 [clips, 32, h, w, 3]."""
        return {
            name: cut.reshape(-1, _CLIP_FRAMES, *cut.shape[1:]) if name in _OF_CLIPS else cut
            for name, cut in cuts.items()
        }

    def score(self, kept: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """As `VideoTeacher.score`."""
        means = []
        for names, network in self.networks:
            inputs = [np.concatenate([cuts[name] for cuts in kept]) for name in names]
            ends = np.cumsum([len(cuts[names[0]]) for cuts in kept])[:-1]
            outputs = np.split(network(*inputs), ends)
            means.append([float(np.mean(x, dtype=np.float64)) for x in outputs])
        return np.array([self.combine(*of_video) for of_video in zip(*means, strict=True)])


def load_teachers(
    names: Sequence[str],
    folder: str,
    batch_size: int = 4,
    devices: Sequence[jax.Device] | None = None,
) -> list[VideoTeacher]:
    """Teachers by name, ready to score.

    Args:
      names: of the registry.
      folder: of the weights, see `cards.weights_folder`.
      batch_size: clips at once on each device.
      devices: None for all local ones. Scores do not depend on their number.

    Raises:
      TeacherError: an unknown name, or weights that are not there.
      WeightsError: a file that does not hold what it should; all keys are named.
    """
    programs.keep()
    found = check(names, folder)
    devices = devices or jax.local_devices()
    loaded: list[VideoTeacher] = []
    extractor = features.Extractor(folder)  # light teachers look at the same pictures
    for teacher in found:
        if teacher.kind == BUILT_IN:
            loaded.append(built_in(teacher.name))
            continue
        if teacher.kind == LIGHT:
            loaded.append(light_teacher.load(teacher.path, extractor))
            continue
        paths = [os.path.join(folder, file.name) for file in teacher.files]
        digests = ":".join(file_sha256(path)[:16] for path in paths)
        fingerprint = f"{teacher.name}-{_VERSION}-{digests}"
        batched = functools.partial(Batched, batch_size=batch_size, devices=devices)
        loaded.append(_LOADERS[teacher.name](teacher.name, fingerprint, paths, batched))
        logging.info("teacher %s", fingerprint)
    return loaded


def _fast_vqa(name: str, fingerprint: str, paths: Sequence[str], batched: Any) -> NeuralTeacher:
    networks = ((looks.LOOKS[name], batched(weights.load_fast_vqa(paths[0]))),)
    return NeuralTeacher(
        name, fingerprint, networks, lambda score: float(fast_vqa.unit_score(score))
    )


_FUSIONS = {"dover": dover.FUSION_BY_BRANCH, "dover_script": dover.FUSION_BY_SCRIPT}
_BRANCHES = {"fragments_3": "technical", "aesthetic": "aesthetic"}  # by the view that it takes


def _dover(name: str, fingerprint: str, paths: Sequence[str], batched: Any) -> NeuralTeacher:
    """DOVER by one of its fusions, or one branch of it."""
    fusion = _FUSIONS.get(name)
    model = weights.load_dover(paths[0])
    networks = tuple(
        ((view,), batched(getattr(model, _BRANCHES[view]))) for view in looks.LOOKS[name]
    )
    combine = (lambda *scores: float(fusion(*scores))) if fusion else float
    return NeuralTeacher(name, fingerprint, networks, combine)


def _minimalistic(name: str, fingerprint: str, paths: Sequence[str], batched: Any) -> NeuralTeacher:
    """Raw scores: the released logistic is a file of its own, and ranks are the same without."""
    config = minimalistic.IX if len(paths) > 1 else minimalistic.VII
    network = batched(weights.load_minimalistic(paths[0], config))
    if len(paths) == 1:
        return NeuralTeacher(name, fingerprint, ((looks.LOOKS[name], network),))
    motion = batched(slowfast.load_features(paths[1]).model)
    both = ((looks.LOOKS[name], lambda frames, clips: network(frames, motion(clips))),)
    return NeuralTeacher(name, fingerprint, both)


def _uvq(name: str, fingerprint: str, paths: Sequence[str], batched: Any) -> NeuralTeacher:
    networks = ((looks.LOOKS[name], batched(weights.load_uvq(paths[0]))),)
    return NeuralTeacher(name, fingerprint, networks)


def _level_prompt(
    name: str, fingerprint: str, paths: Sequence[str], batched: Any
) -> LevelPromptTeacher:
    return LevelPromptTeacher(name, fingerprint, os.path.dirname(paths[0]), batched)


_LOADERS = {
    "fast_vqa": _fast_vqa,
    "dover": _dover,
    "dover_script": _dover,
    "dover_technical": _dover,
    "dover_aesthetic": _dover,
    "minimalistic_vii": _minimalistic,
    "minimalistic_ix": _minimalistic,
    "uvq": _uvq,
    "level_prompt": _level_prompt,
}
