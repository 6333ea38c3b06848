"""A corpus of noise pictures whose quality is their brightness, and a student small enough for it.

Both are made without any video file: records are written as data_prep writes them.
"""

import dataclasses
import json
import os

import jax
import numpy as np

from data_prep.encode import EncodeConfig, encode_rgb
from vqa_jax import anchor_choice, bundle, files, pair_shards, predictor, prompt, records
from vqa_jax.frames import Preprocess
from vqa_jax.input_pipeline import InputConfig
from vqa_jax.losses import LossConfig
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.presets import PRESETS
from vqa_jax.optim import OptimConfig
from vqa_jax.simulator_pairs import all_simulator_pairs
from vqa_jax.train import TrainConfig
from vqa_jax.video_table import FIELDS, write_video_table

EXTRACTOR = "test-extractor"
SIMULATOR = "darken"
BRIGHTNESS = (1.0, 0.66, 0.33, 0.0)  # by severity level; it is all the quality there is here
NUM_LEVELS = len(BRIGHTNESS) - 1
MOTION_DIM = 4
PREPROCESS = Preprocess(
    view="crops",
    image_size=16,
    tile_size=20,
    num_tiles=4,
    max_key_frames=2,
    motion_size=16,
    clip_len=4,
    min_clips=1,
    max_clips=2,
)


def student_spec() -> bundle.StudentSpec:
    """A student of the real architecture with a few thousand parameters."""
    tiny = PRESETS["tiny"]
    student = dataclasses.replace(
        tiny,
        vision=dataclasses.replace(
            tiny.vision,
            image_size=16,
            embed_dim=24,
            mlp_dim=32,
            num_heads=2,
            num_layers=2,
            unroll=1,
        ),
        llm=dataclasses.replace(
            tiny.llm, num_layers=2, embed_dim=32, mlp_dim=32, head_dim=8, unroll=1
        ),
        motion_dim=MOTION_DIM,
        motion_scale=1.0,
        num_severity_classes=1 + 5,
    )
    return bundle.StudentSpec("tiny", student, PREPROCESS, 2, EXTRACTOR, (SIMULATOR,))


def train_config(total_steps: int, **changes) -> TrainConfig:
    """Settings of a short run on this corpus."""
    config = TrainConfig(
        pair_datasets=("vqa_pairs_1",),
        init_from="",
        severity_weight=0.3,
        mesh=(-1, 1, 1),
        log_every=1,
        checkpoint_every=4,
        seed=0,
        input=input_config(),
        optim=OptimConfig(total_steps, min(2, total_steps), 1e-2, 0.05, 1.0, 0.98),
        loss=LossConfig(),
    )
    return dataclasses.replace(config, **changes)


def input_config(**changes) -> InputConfig:
    """Batches of 8 pairs of 2 crops."""
    config = InputConfig(
        batch_size=8,
        num_frames=2,
        swap=True,
        same_crops=0.5,
        answer="level",
        mix=(("simulator", 0.9), ("teachers", 0.1)),
        seed=0,
    )
    return dataclasses.replace(config, **changes)


def tiles(source: int, level: int) -> np.ndarray:
    """Noise [4, 20, 20, 3] of a source, darker at every level."""
    rng = np.random.default_rng([source, 7])
    shape = (PREPROCESS.num_tiles, PREPROCESS.tile_size, PREPROCESS.tile_size, 3)
    return (rng.integers(180, 256, shape) * BRIGHTNESS[level]).astype(np.uint8)


def video_id(source: int, level: int) -> str:
    """Key of a video, with its source in front as data_prep names them."""
    return f"s{source:02d}-000-{SIMULATOR if level else 'source'}-{level}"


def num_clips(source: int, level: int) -> int:
    """Motion clips of a video, 1 or 2: its seconds."""
    return 1 + int(files.key_hash(video_id(source, level)) % 2)


def video_record(source: int, level: int, image: bool = False) -> dict:
    """Record of a video of the corpus, or of a still picture."""
    return {
        "video_id": video_id(source, level),
        "source_id": f"s{source:02d}",
        "path": f"videos/clip {source}.{'png' if image else 'mp4'}",
        "segment": 0,
        "start_frame": 0,
        "num_frames": 1 if image else 30 * num_clips(source, level),
        "fps": 30.0,
        "width": 64,
        "height": 48,
        "simulator": SIMULATOR if level else "source",
        "level": level,
        "effective": True,
        "parameter": "{}",
        "preprocess": PREPROCESS.to_json(),
        "frames": tiles(source, level),
    }


def write_corpus(root: str, num_train: int = 12, num_heldout: int = 2, num_images: int = 0) -> str:
    """Writes videos, motion, the video table and the pairs of iteration 1; returns `root`.

    The first `num_images` of the sources are still pictures.
    """
    splits = {"train": range(num_train), "heldout": range(num_train, num_train + num_heldout)}
    videos = {
        split: [
            video_record(s, level, s < num_images)
            for s in sources
            for level in range(NUM_LEVELS + 1)
        ]
        for split, sources in splits.items()
    }
    rng = np.random.default_rng(1)

    def motion(video: dict) -> dict:
        clips = num_clips(int(video["source_id"][1:]), video["level"])
        features = rng.normal(0.0, 0.1, (clips, MOTION_DIM)).astype(np.float32)
        return {"video_id": video["video_id"], "extractor": EXTRACTOR, "features": features}

    os.makedirs(os.path.join(root, "work"), exist_ok=True)
    for kind, make in (("vqa_videos", lambda v: v), ("vqa_motion", motion)):
        shards = {}
        for split, rows in videos.items():
            path = os.path.join(root, "work", f"{kind}-{split}")
            records.write_shard(path, kind, [make(v) for v in rows])
            shards[split] = [path]
        records.publish(root, kind, kind, shards)
    table = [_row(video, split) for split, rows in videos.items() for video in rows]
    write_video_table(root, table)
    pairs = all_simulator_pairs(pair_shards.simulated_sets(table, "train"))
    # A few pairs of every kind stay unused, so that a later iteration finds new ones.
    used = [pair for i, pair in enumerate(pairs) if i % 5]
    pair_shards.write(root, 1, {"train": used}, 2, {"made": "by a test"})
    return root


def _row(video: dict, split: str) -> dict:
    row = {**video, "split": split}
    row = {name: row[name] for name in FIELDS.names}
    row["scores"] = {"sharpness": float(video["frames"].std()), "noise": float(video["level"])}
    return row


# The known student's channels in the decoder. Every token carries CONSTANT, far larger than all
# else, so that the norms hardly change what is in the other channels.
_CONSTANT, _BRIGHTNESS, _SECOND, _AFTER, _VISUAL, _ANSWER = range(6)
_NORM = 8.0  # of CONSTANT before the norm; sqrt(width) after it
_SHARP = 25.0  # of attention: what is not asked for weighs exp(-_SHARP)
_OFFSET = 6.0  # GELU is the identity there to 1e-8: features pass through a projector


def known_params(student: FunctionalStudent) -> Params:
    """Weights whose level logits are known: they follow the difference of two brightnesses.

    The words peak at 2 + (second - first) / SHADE, where SHADE is one severity level's step. The
    tower keeps every patch's brightness; the decoder's first layer marks what comes after the word
    "second"; in its second layer the answer reads the visual tokens of either video by that mark,
    and takes one brightness from the other. Motion counts a little. All other weights stay random
    and write nothing where the known ones read, so that every part of the network runs.
    """
    params = jax.tree.map(np.array, jax.device_get(student.init(0)))
    width = student.cfg.embed_dim
    gain = width**0.5 / _NORM  # of a channel, by a norm
    _keep_brightness(params)
    tokenizer = prompt.tiny_tokenizer()
    llm, layers = params["llm"], params["llm"]["layers"]
    known = slice(0, _ANSWER + 1)
    for table in (llm["embedding"].T, params["newline"]):
        table[known] = 0.0
        table[known.stop :] *= 10.0
        table[_CONSTANT] = _NORM
    (second,) = prompt.word_ids(tokenizer, ["second"])
    llm["embedding"][second, _SECOND] = 1.0
    for name in ("wo", "w_down"):
        layers[name][..., known] = 0.0
    for name in ("norm1_scale", "norm2_scale"):
        layers[name][:, _CONSTANT] = 0.0
    # Loud where nothing known is read any more.
    layers["norm2_scale"][-1, known.stop :] = llm["norm_scale"][known.stop :] = 5.0
    # Head 0 reads by its last rotary pair, which turns by a thousandth a position.
    slow = student.cfg.llm.head_dim // 2 - 1
    for layer, head, keys in (
        (0, 0, {_SECOND: 1.0}),
        (1, 0, {_VISUAL: 1.0, _AFTER: 1.0}),
        (1, 1, {_VISUAL: 1.0, _AFTER: -1.0}),
    ):
        for name in ("wk", "bk", "wv", "bv"):
            layers[name][layer, ..., head, :] = 0.0
        query = head * (student.cfg.llm.num_heads // student.cfg.llm.num_kv_heads)
        layers["wq"][layer, :, query] = 0.0
        layers["bq"][layer, query] = 0.0
        layers["bq"][layer, query, slow] = student.cfg.llm.head_dim**0.5
        for channel, weight in keys.items():
            layers["wk"][layer, channel, head, slow] = _SHARP * weight / gain
        source, target = (_SECOND, _AFTER) if layer == 0 else (_BRIGHTNESS, _ANSWER)
        layers["wv"][layer, source, head, 0] = 1.0 / gain
        layers["wo"][layer, query, :, known] = 0.0
        layers["wo"][layer, query, 0, target] = -1.0 if head else 1.0
    words = prompt.level_ids(tokenizer)
    steps = np.arange(len(words)) - 2
    llm["head"][known, words] = 0.0
    llm["head"][_ANSWER, words] = 4.0 * steps / _SHADE / gain
    llm["head"][_CONSTANT, words] = -2.0 * steps**2 / width**0.5
    return params


# Brightness between two levels as the tower sees it, -1..1, at a video's share of what is read.
_SHADE = (BRIGHTNESS[0] - BRIGHTNESS[-1]) / NUM_LEVELS * 2 * 217.5 / 255


def _keep_brightness(params: Params) -> None:
    """Tower and projectors: a patch's mean, -1..1, and a little of the motion as brightness."""
    vision = params["vision"]
    for name in ("patch_kernel", "patch_bias", "position"):
        vision[name][..., 0] = 0.0
    vision["patch_kernel"][..., 0] = 1.0 / vision["patch_kernel"][..., 0].size
    for name in ("wo", "bo", "w_down", "b_down"):
        vision["layers"][name][..., 0] = 0.0
    for name, weight, visual in (("vision", 1.0, 1.0), ("motion", 0.1, 0.9)):
        projector = params[f"{name}_projector"]
        projector["w_in"][:, 0] = 0.0
        projector["w_in"][0, 0] = weight
        projector["b_in"][0] = _OFFSET
        projector["w_out"] *= 0.1
        projector["w_out"][0] = 0.0
        projector["w_out"][:, : _ANSWER + 1] = 0.0
        projector["w_out"][0, _BRIGHTNESS] = 1.0
        projector["b_out"][[_CONSTANT, _BRIGHTNESS, _VISUAL]] = _NORM, -_OFFSET, visual


def write_student(data: str, folder: str) -> str:
    """Writes the known student and chooses anchors of a corpus; returns the student's folder."""
    spec = student_spec()
    bundle.save(folder, spec, known_params(FunctionalStudent(spec.student)), {})
    anchor_choice.make_anchors(predictor.load(folder), folder, data)
    return folder


class StubExtractor:
    """Motion extractor of this corpus: its features say nothing."""

    def __init__(self, path=None, batch_size=16):
        """Takes what `motion.load` takes, in whose place it stands."""

    def fingerprint(self, pre: Preprocess) -> str:
        """That of the corpus's motion records."""
        return EXTRACTOR

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        """Zeros [M, MOTION_DIM] for clips [M, K, s, s, 3]."""
        return np.zeros((len(clips), MOTION_DIM), np.float32)


def write_video(path: str, level: int, source: int = 90) -> str:
    """Writes an mp4 of the corpus's noise at a severity level: 20 frames at 10 a second."""
    rng = np.random.default_rng(source)
    first = rng.integers(180, 256, (48, 64, 3)) * BRIGHTNESS[level]
    frames = np.stack([np.roll(first, 2 * t, axis=1) for t in range(20)]).astype(np.uint8)
    with open(path, "wb") as f:
        f.write(encode_rgb(frames, 10, EncodeConfig("h264", 18, "ultrafast")))
    return path


def losses(workdir: str) -> dict[int, float]:
    """Loss by step from a run's metrics file."""
    with open(os.path.join(workdir, "metrics.jsonl"), encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    return {row["step"]: row["train/loss"] for row in rows}
