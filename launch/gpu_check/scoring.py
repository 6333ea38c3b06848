"""The project's own scoring engine, timed: as it is, in int8, and as exported programs."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import nnx
from jax import export

from launch.gpu_check import sizes as sizes_lib
from launch.gpu_check.sizes import Sizes
from launch.gpu_check.training import device_facts, mesh_of, timed
from vqa_jax.devices.execution import Execution
from vqa_jax.exchange import programs
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.motion.network import FastPathway, FastPathwayConfig
from vqa_jax.pairs.levels import preference
from vqa_jax.scoring import thurstone
from vqa_jax.scoring.engine import Engine, VideoInput
from vqa_jax.weights import bundle
from vqa_jax.weights.bundle import StudentSpec


def _spec(sizes: Sizes) -> StudentSpec:
    preprocess = Preprocess(
        image_size=sizes.student.vision.image_size, max_clips=sizes.clips, min_clips=1
    )
    return StudentSpec("", sizes.student, preprocess, sizes.frames, "", ())


def engine(sizes: Sizes, params: Params, device: Any) -> Engine:
    """An engine on one device, which makes all comparisons at once."""
    student, batch = FunctionalStudent(sizes.student), sizes.videos * sizes.anchors
    run = Execution(mesh_of(device))
    return Engine(student, params, _spec(sizes), sizes_lib.tokenizer(), batch, run)


def inputs(sizes: Sizes, count: int, seed: int) -> list[VideoInput]:
    """Made-up videos as the engine takes them."""
    made = sizes_lib.made_up_videos(sizes, count, seed)
    return [VideoInput(frames[None], motion) for frames, motion in made]


def _phase(seconds: list[float], flops: float, tokens: int | None = None) -> dict[str, Any]:
    return {"seconds": float(np.median(seconds)), "flops": flops, "tokens": tokens}


def _phases(sizes: Sizes, judge: Engine) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Times of encoding and comparing; level logits after cached anchors, and among anchors."""
    anchors = list(judge.encode(inputs(sizes, sizes.anchors, seed=1)))
    judge.set_anchors(anchors)
    videos = inputs(sizes, sizes.videos, seed=2)
    encoded = list(judge.encode(videos))
    cached = [(a, video) for video in encoded for a in range(len(anchors))]
    pairs = [(anchors[a], video) for a, video in cached]
    encode_first, encode = timed(lambda: list(judge.encode(videos)), sizes.repeats)
    suffix_first, suffix = timed(lambda: judge.against(cached), sizes.repeats)
    pairs_first, whole = timed(lambda: judge.compare(pairs), sizes.repeats)
    logits = judge.against(cached)
    layout = sizes_lib.scoring_layout(sizes)
    length, rest = len(layout.tokens), len(layout.tokens) - layout.prefix_len
    by_suffix, by_pair = (sizes_lib.decoding_flops(sizes, cached=known) for known in (True, False))
    found = {
        "first_seconds": encode_first + suffix_first + pairs_first,
        "encode": _phase(encode, sizes_lib.encoding_flops(sizes)),
        "cached": _phase(suffix, by_suffix, len(cached) * rest),
        "pairs": _phase(whole, by_pair, len(pairs) * length),
        "cached_against_pairs": float(np.abs(logits - judge.compare(pairs)).max()),
    }
    return found, logits, judge.compare([(a, b) for a in anchors for b in anchors])


def score(sizes: Sizes) -> dict[str, Any]:
    """Times the encoding of videos, and their comparisons with cached anchors and as whole pairs;
    the same by exported programs, which attend as XLA does, and in int8.

    The scores are Thurstone's q: random weights order no anchors, so there is no scale to map to.
    """
    device = jax.devices()[0]
    params = FunctionalStudent(sizes.student).init(0)
    found, logits, among = _phases(sizes, engine(sizes, params, device))
    found["q"] = _solved(sizes, logits, among)
    facts = device_facts(device)  # before the others add to the peak
    logging.info("exported programs")
    found["exported"], others = _exported(sizes, params)
    found["exported"]["difference"] = float(np.abs(others - logits).max())
    del params
    logging.info("int8")
    whole = dataclasses.replace(sizes.student, param_dtype="int8")
    small = dataclasses.replace(sizes, student=whole)
    coarse = engine(small, FunctionalStudent(whole).init(0), device)
    found["int8"], others, _ = _phases(small, coarse)
    found["int8"]["difference"] = float(np.abs(others - logits).max())
    return {"videos": sizes.videos, "anchors": sizes.anchors, **found, **facts}


def _solved(sizes: Sizes, logits: np.ndarray, among: np.ndarray) -> list[float]:
    matrix = thurstone.average_orders(preference(among).reshape(sizes.anchors, -1))
    probabilities = preference(logits).reshape(sizes.videos, -1)
    q, _ = thurstone.map_scores(thurstone.preference_matrix(probabilities, matrix))
    return q[:, -1].tolist()


def _exported(sizes: Sizes, params: Params) -> tuple[dict[str, Any], np.ndarray]:
    """Times of the exported program a video, and its level logits [videos * anchors, 5]."""
    student, spec = FunctionalStudent(sizes.student), _spec(sizes)
    pathway = FastPathway(FastPathwayConfig(), nnx.Rngs(0))
    weights = jax.device_put({**bundle.flatten(params), **programs.motion_weights(pathway)})
    rows = inputs(sizes, sizes.anchors, seed=1)
    counts = {"num_frames": sizes.frames, "num_motion": sizes.clips}
    anchors = {
        "frames": np.concatenate([v.frames for v in rows]),
        "motion": np.stack([v.motion for v in rows]),
        **{k: np.full(sizes.anchors, count, np.int32) for k, count in counts.items()},
        "matrix": np.full((sizes.anchors, sizes.anchors), 0.5, np.float32),
        "curve_q": np.zeros(2, np.float32),
        "curve_score": np.zeros(2, np.float32),
    }
    made = programs.programs(student, spec, sizes_lib.tokenizer(), pathway, weights, anchors, 1)
    prepare, levels = (jax.jit(export.deserialize(made[k]).call) for k in ("prepare", "levels"))
    cache = prepare(weights, *(anchors[k] for k in programs.ANCHOR_ARRAYS[:4]))
    videos = jax.device_put([(v.frames, v.motion) for v in inputs(sizes, sizes.videos, seed=2)])
    real = [np.int32(count) for count in counts.values()]

    def call() -> list[jax.Array]:
        return [levels(weights, *cache, *video, *real) for video in videos]

    first, seconds = timed(call, sizes.repeats)
    flops = sizes_lib.encoding_flops(sizes) + sizes_lib.decoding_flops(sizes, cached=True)
    return {"first_seconds": first, **_phase(seconds, flops)}, np.concatenate(call())
