"""Motion features of clips: the frozen extractor that fills the motion records.

The small student uses the weights shipped with the package (`assets/motion_tiny.safetensors`, clips
of 56x56); the published sizes need a converted SlowFast-R50 (224x224), given by path.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from absl import logging

from vqa_jax.devices import programs
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.motion import network, weights
from vqa_jax.weights import companions
from vqa_jax.weights.bundle import BundleError, StudentSpec

TINY_WEIGHTS = pathlib.Path(__file__).parents[1] / "assets" / "motion_tiny.safetensors"
CLIPS_AT_ONCE = 16  # in one call; a video has ten at most
_VERSION = 1  # raise it when the same weights and clips would give other features


class MotionExtractor:
    """Features of any number of clips, computed in batches of one size (one compilation)."""

    def __init__(
        self,
        features: network.MotionFeatures,
        weights_sha256: str,
        batch_size: int = CLIPS_AT_ONCE,
        devices: Sequence[jax.Device] | None = None,
    ):
        """See `load_extractor`, which makes one from a file."""
        devices = devices or jax.local_devices()[:1]
        self._features = features.over(devices)
        self._batch_size = batch_size * len(devices)
        self.weights_sha256 = weights_sha256

    @property
    def pathway(self) -> network.FastPathway:
        """The network itself."""
        return self._features.model

    @property
    def motion_dim(self) -> int:
        """Width D of the features."""
        return self._features.config.motion_dim

    def fingerprint(self, pre: Preprocess) -> str:
        """Short hash of all that a video's features depend on: weights and clip rule."""
        identity = {
            "version": _VERSION,
            "weights": self.weights_sha256,
            "geometry": [pre.motion_size, pre.clip_len, pre.min_clips, pre.max_clips],
            "view": pre.view,  # decides which clips are kept when there are too many
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Features of clips, of one or of many videos concatenated.

        Args:
            clips: uint8 RGB [N, K, S, S, 3].

        Returns:
            float32 [N, D]. Equal clips (short videos repeat their last one) are computed once.
        """
        clips = np.asarray(clips)
        if not len(clips):
            return np.zeros((0, self.motion_dim), np.float32)
        places: dict[bytes, int] = {}
        order = [places.setdefault(hashlib.sha256(c).digest(), len(places)) for c in clips]
        first = np.unique(order, return_index=True)[1]
        parts = []
        for start in range(0, len(first), self._batch_size):
            batch = clips[first[start : start + self._batch_size]]
            filler = np.zeros((self._batch_size - len(batch), *batch.shape[1:]), np.uint8)
            parts.append(self._features(np.concatenate([batch, filler])))
        return np.concatenate([np.asarray(part) for part in parts])[order]


def load_extractor(
    path: str | os.PathLike | None = None,
    batch_size: int = CLIPS_AT_ONCE,
    devices: Sequence[jax.Device] | None = None,
) -> MotionExtractor:
    """The shipped small extractor, or the one in a pytorchvideo-named safetensors file.

    Args:
        path: weights; None for the shipped ones.
        batch_size: clips computed at once on each device.
        devices: where to compute, side by side; None for the first local one. The features do not
            depend on their number.

    Raises:
        FileNotFoundError: no such file.
        WeightsError: it does not hold a fast pathway; lists the offending keys.
    """
    path = pathlib.Path(path or TINY_WEIGHTS)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no motion weights; make them with vqa_jax.motion.pretrain"
        )
    programs.keep()
    features = weights.load_features(path)
    logging.info("motion extractor %s: %d features a clip", path, features.config.motion_dim)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return MotionExtractor(features, digest, batch_size, devices)


def load_for(
    folder: str, spec: StudentSpec, devices: Sequence[jax.Device] | None = None
) -> MotionExtractor:
    """The extractor that a student was trained with: the one beside it, or the shipped one.

    Args:
        folder: the student's.
        spec: the student.
        devices: share the clips of a video; None: the first local one.

    Raises:
        BundleError: neither is the one that it was trained with.
    """
    clips = -(-CLIPS_AT_ONCE // len(devices)) if devices else CLIPS_AT_ONCE
    extractor = load_extractor(companions.motion_beside(folder), clips, devices)
    if extractor.fingerprint(spec.preprocess) != spec.extractor:
        raise BundleError(
            f"{folder}: trained with other motion weights: put them there as "
            f"{companions.MOTION_FILE}"
        )
    return extractor
