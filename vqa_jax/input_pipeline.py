"""Shards -> padded batches. The batch at step t is a pure function of (corpus, config, t).

Grain shuffles pairs globally by seed and mixes simulator-, teacher- and student-labelled ones by
weight; each pair's two videos are read by key, cropped (view "crops"), perhaps swapped, laid out as
tokens and padded on the right to a bucket of frames and motion clips.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from vqa_jax import prompt
from vqa_jax.files import CorpusError
from vqa_jax.frames import Preprocess
from vqa_jax.levels import LEVELS
from vqa_jax.records import RecordStore

MAX_LEVEL = 5  # most levels that a simulator has (METHOD 3.2)
GROUPS = ("simulator", "teachers", "student")


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """How pairs become batches.

    Attributes:
      batch_size: pairs in a global batch.
      num_frames: most frames (or crops) of a video in a batch; more are drawn at random in
        training and thinned evenly otherwise.
      swap: (A, B) becomes (B, A) with the mirrored label in half of the examples.
      same_crops: share of examples whose two videos show the same crops, where both have as many.
      answer: "level" trains the level word alone, "sentence" the whole answer.
      mix: (group, weight) of the pair groups "simulator", "teachers", "student"; groups that a
        corpus lacks are left out and the weights of the others rescaled. Simulators share theirs
        equally; one that is named ("simulator:stutter") has its own weight instead.
      seed: order, crops and swaps follow from it.
    """

    batch_size: int
    num_frames: int
    swap: bool
    same_crops: float
    answer: str
    mix: tuple[tuple[str, float], ...]
    seed: int

    def __post_init__(self) -> None:
        if self.answer not in ("level", "sentence"):
            raise ValueError(f"answer must be 'level' or 'sentence', not {self.answer!r}")


class PromptGeometry:
    """Training prompts of the five levels, tokenized once, and the tokens that a frame takes."""

    def __init__(self, tokenizer: Any, tokens_per_frame: int, answer: str):
        self.tokens_per_frame = tokens_per_frame
        self.level_ids = prompt.level_ids(tokenizer)
        self._ids = {level: prompt.training_ids(tokenizer, level) for level in LEVELS}
        span = prompt.answer_span(tokenizer, LEVELS[0])  # level words are one token each
        self._predict = [span.level] if answer == "level" else list(range(span.start, span.stop))
        self.level_index = self._predict.index(span.level)

    def bank(self, num_frames: int, num_motion: int) -> prompt.Bank:
        """Visual tokens of one padded video."""
        return prompt.Bank(num_frames * self.tokens_per_frame, num_motion)

    def max_length(self, bank: prompt.Bank) -> int:
        """Sequence length of a pair that fills the bank."""
        return len(self._ids[LEVELS[0]]) - 4 + 2 * bank.stride

    def layout(
        self, level: str, num_frames: Sequence[int], num_motion: Sequence[int], bank: prompt.Bank
    ) -> tuple[prompt.Layout, np.ndarray]:
        """Layout of one pair and the ids [T] of its answer tokens."""
        ids = self._ids[level]
        tokens = [n * self.tokens_per_frame for n in num_frames]
        return (
            prompt.layout(ids, tokens, num_motion, bank, self._predict),
            np.asarray(ids, np.int32)[self._predict],
        )


def label_group(label_source: str) -> str:
    """Group of a pair by the source of its label: "simulator", "teachers" or "student"."""
    return label_source.split(":")[0]


class VideoStore:
    """Videos of a corpus with their motion features, by key."""

    def __init__(self, root: str, extractor: str):
        """Opens the shards; `extractor` is the fingerprint that motion records must carry."""
        self._root, self._extractor = root, extractor
        self._videos = RecordStore(root, "vqa_videos")
        self._motion = RecordStore(root, "vqa_motion")

    def __getitem__(self, video_id: str) -> tuple[dict[str, Any], np.ndarray]:
        """Video record and motion features [M, D] of a key.

        Raises:
          CorpusError: the motion record is missing or of another extractor.
        """
        if video_id not in self._motion:
            raise CorpusError(
                f"{self._root}: no motion features of {video_id}: run `python -m vqa_jax motion`"
            )
        motion = self._motion[video_id]
        if motion["extractor"] != self._extractor:
            raise CorpusError(
                f"{self._root}: motion features of extractor {motion['extractor']}, the student "
                f"wants {self._extractor}: run `python -m vqa_jax motion` again"
            )
        return self._videos[video_id], motion["features"]


class PairCorpus:
    """Pairs of one split with access to their videos."""

    def __init__(self, root: str, pair_datasets: Sequence[str], split: str, extractor: str):
        """Opens the datasets.

        Args:
          root: corpus folder.
          pair_datasets: names of pair datasets; later iterations add theirs.
          split: "train" or "heldout".
          extractor: fingerprint that the motion records must carry.
        """
        self.root = root
        self.videos = VideoStore(root, extractor)
        self.pairs: list[dict[str, Any]] = []
        for name in pair_datasets:
            self.pairs.extend(RecordStore(root, name, "vqa_pairs", split).records())


def crop_tiles(tiles: np.ndarray, size: int, chosen: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Cuts `size` windows out of chosen tiles [N, T, T, 3] at offsets int [n, 2] (y, x)."""
    return np.stack(
        [tiles[i, y : y + size, x : x + size] for i, (y, x) in zip(chosen, offsets, strict=True)]
    )


def _draw_crops(count: int, slack: int, num_frames: int, rng: np.random.Generator):
    chosen = rng.permutation(count)[:num_frames]
    return chosen, rng.integers(0, slack + 1, (len(chosen), 2))


def training_frames(
    first: np.ndarray, second: np.ndarray, pre: Preprocess, config: InputConfig, rng
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of both videos as the student sees them in training, each [F, S, S, 3]."""
    if pre.view == "squash":
        return tuple(_thin(v, config.num_frames) for v in (first, second))
    slack = pre.tile_size - pre.image_size
    draw = _draw_crops(len(first), slack, config.num_frames, rng)
    other = draw
    if len(second) != len(first) or rng.random() >= config.same_crops:
        other = _draw_crops(len(second), slack, config.num_frames, rng)
    return crop_tiles(first, pre.image_size, *draw), crop_tiles(second, pre.image_size, *other)


def _thin(frames: np.ndarray, most: int) -> np.ndarray:
    if len(frames) <= most:
        return frames
    return frames[np.linspace(0, len(frames) - 1, most).round().astype(int)]


def scoring_groups(frames: np.ndarray, pre: Preprocess, num_frames: int) -> np.ndarray:
    """Frames of a video as the student sees them in scoring: [G, F, S, S, 3].

    A crops view is cut to centre crops and dealt into groups of `num_frames`, so that each group
    spans the video and the frame; the groups' level logits are averaged. A squashed view is one
    group.
    """
    if pre.view == "squash":
        return _thin(frames, num_frames)[None]
    edge = (pre.tile_size - pre.image_size) // 2
    crops = frames[:, edge : edge + pre.image_size, edge : edge + pre.image_size]
    groups = max(1, len(crops) // num_frames)
    return np.stack([crops[g::groups][:num_frames] for g in range(groups)])


def severity_class(video: Mapping[str, Any], simulators: Sequence[str], max_level: int) -> int:
    """Class of the auxiliary task: 0 for a source, else one per (simulator, level), from 1 up.

    -1 (no class) for simulators outside `simulators`: single frames do not show temporal ones.
    """
    if video["level"] == 0:
        return 0
    if video["simulator"] not in simulators:
        return -1
    return 1 + simulators.index(video["simulator"]) * max_level + int(video["level"]) - 1


class _Assemble(grain.transforms.RandomMap):
    """Pair record -> one unpadded example."""

    def __init__(self, corpus: PairCorpus, config: InputConfig, simulators: Sequence[str]):
        self._corpus, self._config, self._simulators = corpus, config, list(simulators)

    def random_map(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        pair = self._corpus.pairs[index]
        keys = [pair["first_id"], pair["second_id"]]
        probs = pair["level_probs"]
        if self._config.swap and rng.random() < 0.5:
            keys, probs = keys[::-1], probs[::-1]
        (first, first_motion), (second, second_motion) = (self._corpus.videos[k] for k in keys)
        pre = Preprocess.from_json(first["preprocess"])
        frames = training_frames(first["frames"], second["frames"], pre, self._config, rng)
        return {
            "frames": frames,
            "motion": (first_motion, second_motion),
            "level_probs": np.asarray(probs, np.float32),
            "severity": np.array(
                [severity_class(v, self._simulators, MAX_LEVEL) for v in (first, second)], np.int32
            ),
            "group": label_group(pair["label_source"]),
        }


def pad_batch(
    examples: Iterable[Mapping[str, Any]],
    geometry: PromptGeometry,
    num_frames: int,
    num_motion: int,
) -> dict[str, np.ndarray]:
    """Pads examples to one batch of static shape.

    Args:
      examples: from the assembly step.
      geometry: prompts and tokens per frame.
      num_frames: frame bucket F.
      num_motion: motion bucket M.

    Returns:
      frames uint8 [B, 2, F, S, S, 3], frame_mask f32 [B, 2, F], motion f32 [B, 2, M, D], tokens
      i32 [B, L], answer_pos and answer_ids i32 and loss_mask f32 [B, T], level_probs f32 [B, 5],
      severity i32 [B, 2], group i32 [B], example_mask f32 [B]. Padding follows the real tokens,
      so causal attention never sees it.
    """
    examples = list(examples)
    size = examples[0]["frames"][0].shape[1:]
    width = examples[0]["motion"][0].shape[1]
    bank = geometry.bank(num_frames, num_motion)
    frames = np.zeros((len(examples), 2, num_frames, *size), np.uint8)
    frame_mask = np.zeros((len(examples), 2, num_frames), np.float32)
    motion = np.zeros((len(examples), 2, num_motion, width), np.float32)
    tokens = np.zeros((len(examples), geometry.max_length(bank)), np.int32)
    answer_pos, answer_ids = [], []
    for i, example in enumerate(examples):
        for n in range(2):
            frames[i, n, : len(example["frames"][n])] = example["frames"][n]
            frame_mask[i, n, : len(example["frames"][n])] = 1.0
            motion[i, n, : len(example["motion"][n])] = example["motion"][n]
        row, ids = geometry.layout(
            LEVELS[int(np.argmax(example["level_probs"]))],
            [len(f) for f in example["frames"]],
            [len(m) for m in example["motion"]],
            bank,
        )
        tokens[i, : len(row.tokens)] = row.tokens
        answer_pos.append(row.answer_pos)
        answer_ids.append(ids)
    return {
        "frames": frames,
        "frame_mask": frame_mask,
        "motion": motion,
        "tokens": tokens,
        "answer_pos": np.stack(answer_pos),
        "answer_ids": np.stack(answer_ids),
        "loss_mask": np.ones((len(examples), len(answer_ids[0])), np.float32),
        "level_probs": np.stack([e["level_probs"] for e in examples]),
        "severity": np.stack([e["severity"] for e in examples]),
        "group": np.array([GROUPS.index(e["group"]) for e in examples], np.int32),
        "example_mask": np.ones(len(examples), np.float32),
    }


def training_batches(
    corpus: PairCorpus,
    config: InputConfig,
    geometry: PromptGeometry,
    simulators: Sequence[str],
    num_motion: int,
) -> grain.MapDataset:
    """Endless dataset of batches; element t is the batch of step t (checkpointable, seekable)."""
    members: dict[str, list[int]] = {}
    for i, pair in enumerate(corpus.pairs):
        members.setdefault(pair["label_source"], []).append(i)
    # Simulators with few levels have few pairs: each gets the same share of its group's weight.
    mix = dict(config.mix)
    sizes = collections.Counter(label_group(source) for source in members if source not in mix)
    weights = {}
    for source in sorted(members):
        group = label_group(source)
        weight = mix[source] if source in mix else mix.get(group, 0) / sizes[group]
        if weight > 0:
            weights[source] = weight
    if not weights:
        raise CorpusError(f"{corpus.root}: no pairs of the groups {mix}")
    total = sum(weights.values())
    parts = [
        grain.MapDataset.source(members[g]).seed(config.seed + k).shuffle().repeat(None)
        for k, g in enumerate(weights)
    ]
    pairs = grain.MapDataset.mix(parts, [w / total for w in weights.values()])
    examples = pairs.seed(config.seed).random_map(_Assemble(corpus, config, simulators))
    return examples.batch(
        config.batch_size,
        batch_fn=lambda xs: pad_batch(xs, geometry, config.num_frames, num_motion),
    )
