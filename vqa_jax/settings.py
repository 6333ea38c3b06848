"""Settings of every stage, once, with their defaults: `configs/` holds what a run changes.

Light: a config can be read and checked where JAX is not installed. Preparation's settings are in
`data_prep/prepare/config.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

VIDEOS_A_RANGE = 64  # of a job's work; a restart repeats at most one range a process


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
      mix: (group, weight) of the pair groups, see `pair_batch.GROUPS`, and "image" for pairs of two
        still pictures, whatever their labels' source; groups that a corpus lacks are left out and
        the weights of the others rescaled. Simulators (and sets with human scores) share theirs
        equally; one that is named ("simulator:stutter") has its own weight instead.
      seed: order, crops and swaps follow from it.
      buckets: (frames, motion clips) that shorter pairs are padded to, besides the longest of all;
        a batch holds pairs of one bucket.
      group_size: pairs that share a video are put together, up to this many, that video first.
    """

    batch_size: int
    num_frames: int
    swap: bool
    same_crops: float
    answer: str
    mix: tuple[tuple[str, float], ...]
    seed: int
    buckets: tuple[tuple[int, int], ...] = ()
    group_size: int = 1

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> InputConfig:
        """Builds the config from plain values, as configs/ holds them."""
        fields = dict(fields)
        fields["mix"] = tuple(sorted(dict(fields["mix"]).items()))
        fields["buckets"] = tuple((int(f), int(m)) for f, m in fields["buckets"])
        return cls(**fields)

    def __post_init__(self) -> None:
        if self.answer not in ("level", "sentence"):
            raise ValueError(f"answer must be 'level' or 'sentence', not {self.answer!r}")
        if self.group_size < 1 or self.batch_size % self.group_size:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of group_size {self.group_size}"
            )

    @property
    def num_groups(self) -> int:
        """Rows of a global batch: groups, or pairs where group_size is 1."""
        return self.batch_size // self.group_size

    def bucket_sizes(self, num_motion: int) -> list[tuple[int, int]]:
        """Sizes of all buckets, ascending; each holds all that the ones before it do.

        Raises:
          ValueError: two buckets of which neither holds the other.
        """
        sizes = sorted({*self.buckets, (self.num_frames, num_motion)})
        if sorted(clips for _, clips in sizes) != [clips for _, clips in sizes]:
            raise ValueError(f"buckets {sizes}: with the frames, the clips must grow too")
        if sizes[-1] != (self.num_frames, num_motion) or min(sizes[0]) < 1:
            raise ValueError(f"buckets {sizes}: between (1, 1) and {self.num_frames, num_motion}")
        return sizes


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Schedule of the entropy term.

    Attributes:
      confidence: False drops the entropy term (l = 0): plain cross-entropy.
      warmup_share: w, share of training over which l is phased in and T falls.
      start_temperature: T at the start.
      end_temperature: T from the end of the warm-up on.
    """

    confidence: bool = True
    warmup_share: float = 0.1
    start_temperature: float = 0.5
    end_temperature: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.warmup_share <= 1:
            raise ValueError(f"warmup_share must be in (0, 1], got {self.warmup_share}")
        if min(self.start_temperature, self.end_temperature) <= 0:
            raise ValueError("temperatures must be positive")


Trainable = tuple[tuple[str, float], ...]


EVERYTHING: Trainable = (("*", 1.0),)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Schedule and regularisation; `warmup_steps` <= `total_steps`."""

    total_steps: int
    warmup_steps: int
    peak_lr: float
    weight_decay: float
    grad_clip: float
    b2: float

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} not in 0..{self.total_steps}")


def rules_of(rules: Mapping[str, float] | Sequence[Sequence[Any]]) -> Trainable:
    """Rules as configs hold them, in an order that does not depend on how they were written."""
    pairs = rules.items() if isinstance(rules, Mapping) else rules
    return tuple(sorted((str(pattern), float(rate)) for pattern, rate in pairs))


@dataclasses.dataclass(frozen=True)
class RelabelConfig:
    """Quotas of an iteration (method 3.3 and 7).

    Attributes:
      seed: of the pool's choice.
      pool_segments: segments of the training split that are looked at, by key hash (0 = all).
      misordered_quota: most simulator pairs taken, the most confidently wrong first.
      gmad_quota: most gMAD pairs taken, over all weak models.
      num_bins: quality bins of gMAD.
      max_per_video: how often one video may serve in gMAD pairs.
      unite: how the teachers' scales become one.
      num_shards: pair shards.
      lower_is_better: imported teachers whose lower scores are the better ones.
      misordered_pools: ({"name", "simulators", "pairs"}, ...): a quota for each group of
        simulators instead of `misordered_quota`; simulators outside give no pairs.
      xi: largest difference of the defender's scores in a gMAD pair, in bin widths.
      labels: who labels gMAD pairs: "student", or "ensemble", the student as one more teacher
        beside the old ones (method 3.1).
      std_floor: lowest s_D of teachers and ensemble.
      range_videos: videos of a range of the work; a restart repeats at most one range a process.
    """

    seed: int
    pool_segments: int
    misordered_quota: int
    gmad_quota: int
    num_bins: int
    max_per_video: int
    unite: str
    num_shards: int
    lower_is_better: tuple[str, ...] = ()
    misordered_pools: tuple[dict[str, Any], ...] = ()
    xi: float = 1.0
    labels: str = "student"
    std_floor: float = 3.0
    range_videos: int = VIDEOS_A_RANGE

    def __post_init__(self) -> None:
        if self.labels not in ("student", "ensemble"):
            raise ValueError(f"labels must be student or ensemble, got {self.labels!r}")
        for pool in self.misordered_pools:
            if set(pool) != {"name", "simulators", "pairs"}:
                raise ValueError(f"misordered_pools have name, simulators and pairs, got {pool}")
        if self.range_videos < 1 or self.xi < 0:
            raise ValueError("range_videos starts at 1 and xi at 0")


PROTOCOLS = ("map", "w2s")


EPSILON = 0.12  # of the adaptive mode; measured, see the README


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """How videos are scored.

    Attributes:
      epsilon: > 0: adaptive. Start at the middle anchor, go on with the one next to the estimate,
        stop when a comparison moved q by less than this; 0 compares with all.
      both_orders: also show the video first, and average: twice the comparisons, none cached.
      protocol: "map", or "w2s" for the authors' rule (`w2s_scores`), for comparison only.
      seed: of w2s's random start.
    """

    epsilon: float = 0.0
    both_orders: bool = False
    protocol: str = "map"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r}: one of {', '.join(PROTOCOLS)}")
        if self.epsilon < 0:
            raise ValueError(f"epsilon {self.epsilon} is negative")
        if (self.epsilon > 0) + self.both_orders + (self.protocol == "w2s") > 1:
            raise ValueError("adaptive, both orders and w2s exclude one another: choose one")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a run besides the student itself; an unknown field is a TypeError.

    Attributes:
      pair_datasets: pair datasets of the corpus that are trained on (iterations are cumulative).
      init_from: student bundle to start from, or "" for random weights.
      severity_weight: weight of the auxiliary severity loss.
      mesh: sizes of data, fsdp, tensor; -1 takes what is left.
      log_every: steps between metric rows.
      checkpoint_every: steps between checkpoints.
      keep_best, keep_every: see `checkpoint.Checkpointer`.
      input, optim, loss: see InputConfig, OptimConfig, LossConfig.
      trainable, sharding, attention, remat: see `training.step.StepConfig`.
      lora_rank: rank of low-rank additions to the decoder, 0 for none; they are merged into the
        student that is written.
    """

    pair_datasets: tuple[str, ...]
    init_from: str
    severity_weight: float
    mesh: tuple[int, int, int]
    log_every: int
    checkpoint_every: int
    seed: int
    input: InputConfig
    optim: OptimConfig
    loss: LossConfig
    trainable: Trainable = EVERYTHING
    sharding: tuple[tuple[str, str], ...] = ()
    attention: str = "auto"
    remat: str = "none"
    lora_rank: int = 0
    keep_best: int = 0
    keep_every: int = 0

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainConfig:
        """Builds the config from plain values, as configs/ holds them."""
        fields = dict(fields)
        fields["pair_datasets"] = tuple(fields["pair_datasets"])
        fields["mesh"] = tuple(fields["mesh"])
        fields["input"] = InputConfig.from_dict(fields["input"])
        fields["optim"] = OptimConfig(**fields["optim"])
        fields["loss"] = LossConfig(**fields["loss"])
        fields["trainable"] = rules_of(fields["trainable"])
        fields["sharding"] = tuple(sorted(dict(fields["sharding"]).items()))
        return cls(**fields)
