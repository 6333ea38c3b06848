"""Packs a corpus with tokens and pairs into one file: needs the whole installation, but no card."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import logging
from scipy import linalg
from tqdm import tqdm

from launch.gpu_train import balance
from vqa_jax.corpus.store import PairCorpus
from vqa_jax.jobs import files
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import input_pipeline, tower_tokens
from vqa_jax.training.step import StepConfig
from vqa_jax.weights.bundle import StudentSpec

MOST_BYTES = 40_000_000
_SPARE = 1.005  # of what the arrays are estimated to take
_MEASURED = 8_000  # tokens that tell the principal directions
_LARGEST = 127  # coefficient; those of the measured tokens end there
_NOTHING = 1e-9  # of the largest one: directions in which nothing varies


def pack(
    data: str, config: TrainConfig, spec: StudentSpec, path: str, most: int = MOST_BYTES
) -> dict[str, Any]:
    """Writes the file; returns its facts.

    Args:
      data: corpus folder with tokens and pairs.
      config: of the run.
      spec: of its student, whose tower is a pretrained one.
      path: file to write.
      most: bytes that it may have.

    Returns:
      {"bytes", "videos", "pairs", "directions", "kept": share of the tokens' variance}.

    Raises:
      SettingsError: the student trains its tower, or everything but the tokens is too much already.
    """
    if not spec.tower:
        raise SettingsError(f"{spec.preset} trains its tower: it has no tokens to pack")
    corpus = PairCorpus(data, config.pair_datasets, "train", spec.extractor, spec.tower)
    sizes = config.input.bucket_sizes(spec.preprocess.max_clips)
    index, images = input_pipeline.index_of(corpus, config.input, sizes)
    ids = sorted({pair[side] for pair in corpus.pairs for side in ("first_id", "second_id")})
    measured = {k: _stored(v) for k, v in tower_tokens.measured(corpus.videos, ids).items()}
    parts = {**_videos(corpus, ids), **_pairs(corpus), **measured, "images": images}
    for name, values in dataclasses.asdict(index).items():
        parts[name] = values.astype(np.uint16 if values.max() < 2**16 else np.uint32)
    tokens, simulators = parts.pop("tokens"), parts.pop("simulators")
    told = {"config": config.to_dict(), "spec": spec.to_dict(), "simulators": simulators}
    told["sources"] = parts.pop("sources")
    parts["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
    taken = io.BytesIO()
    np.savez_compressed(taken, **parts)
    each = tokens.shape[0] * tokens.shape[1] + 2 * tokens.shape[2]  # bytes of one direction
    fit = int((most / _SPARE - taken.tell()) / each)
    if fit < 1:
        raise SettingsError(f"{data}: {taken.tell()} bytes without tokens, {most} are allowed")
    rows, coefficients, kept = _directions(tokens, spec, measured, fit)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **parts, rows=rows, coefficients=coefficients)
        size = file.tell()
    facts = {"bytes": size, "videos": len(ids), "pairs": len(corpus.pairs)}
    facts |= {"directions": len(rows), "kept": round(kept, 4)}
    logging.info("%s: %s", path, facts)
    return facts


def _stored(values: np.ndarray) -> np.ndarray:
    """As training keeps what is frozen."""
    dtype = StepConfig.__dataclass_fields__["frozen_dtype"].default
    return np.asarray(jnp.asarray(values, dtype), np.float32)


def _videos(corpus: PairCorpus, ids: Sequence[str]) -> dict[str, Any]:
    """Arrays of the videos; "tokens" float16 [N, P, W] of all their frames."""
    tokens, motion, levels, simulators, counts = [], [], [], [], []
    for key in tqdm(ids, "pack", unit="video"):
        record, features = corpus.videos[key]
        clips = features if features.any() else features[:0]
        tokens.append(record["frames"])
        motion.append(clips.astype(np.float16))
        levels.append(record["level"])
        simulators.append(record["simulator"])
        counts.append((len(record["frames"]), len(clips)))
    names, numbers = np.unique(simulators, return_inverse=True)
    frames, clips = np.array(counts, np.int32).T
    return {
        "tokens": np.concatenate(tokens),
        "motion": np.concatenate(motion),
        "level": np.array(levels, np.int8),
        "simulator": numbers.astype(np.uint8),
        "simulators": names.tolist(),
        "frames": frames,
        "clips": clips,
    }


def _pairs(corpus: PairCorpus) -> dict[str, Any]:
    names, numbers = np.unique([p["label_source"] for p in corpus.pairs], return_inverse=True)
    return {
        "label_probs": np.array([p["level_probs"] for p in corpus.pairs], np.float16),
        "normalized_margin": np.array([p["normalized_margin"] for p in corpus.pairs], np.float16),
        "source": numbers.astype(np.uint8),
        "sources": names.tolist(),
    }


def _directions(
    tokens: np.ndarray, spec: StudentSpec, measured: dict[str, np.ndarray], most: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """(rows float16 [K, W], coefficients int8 [N, P, K], share of the variance kept), K <= most."""
    tower = FunctionalStudent(spec.student).bind({"vision": measured}).vision
    flat = tokens.reshape(-1, tokens.shape[-1])
    some = flat[:: max(1, len(flat) // _MEASURED)].astype(np.float32)
    seen = np.asarray(tower.standardized(some), np.float64)
    basis = principal(seen, most)
    kept = np.square(seen @ basis).sum() / np.square(seen).sum()
    count = basis.shape[1]
    unit = np.abs(seen @ basis).max(0) / _LARGEST
    found = np.empty((len(flat), count), np.int8)
    for start in range(0, len(flat), _MEASURED):
        piece = slice(start, start + _MEASURED)
        along = np.asarray(tower.standardized(flat[piece].astype(np.float32))) @ basis
        found[piece] = np.clip(np.round(along / unit), -_LARGEST, _LARGEST)
    rows = basis.T * unit[:, None] * measured["scale"] / balance.weights(spec)
    rows = rows.astype(np.float16)
    return rows, found.reshape(*tokens.shape[:2], count), float(kept)


def principal(seen: np.ndarray, most: int) -> np.ndarray:
    """Orthonormal directions [W, K] in which tokens [N, W] are largest, K <= most."""
    few = len(seen) < seen.shape[1]
    moments = seen @ seen.T if few else seen.T @ seen
    last, count = len(moments) - 1, min(most, len(moments))
    values, vectors = linalg.eigh(moments, subset_by_index=[last + 1 - count, last])
    vectors = vectors[:, ::-1][:, values[::-1] > values[-1] * _NOTHING]
    basis = np.linalg.qr(seen.T @ vectors)[0] if few else vectors
    return np.ascontiguousarray(basis, np.float32)
