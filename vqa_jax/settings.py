"""Settings of every stage, once, with their defaults: `configs/` holds what a run changes.

Light: a config can be read and checked where JAX is not installed. Preparation's settings are in
`data_prep/prepare/config.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from vqa_jax.errors import VqaError

ATTENTION_KINDS = ("auto", "xla", "cudnn", "splash", "splash_interpreted")
DTYPES = ("float32", "bfloat16", "float16")  # of weights and of arithmetic
SCORING_DTYPES = (*DTYPES, "int8")  # in which a student is loaded; int8: layers, see models.int8
# In which anchors' keys and values, or matrices below additions, are kept, other than as computed.
KEPT_DTYPES = ("int8",)

VIDEOS_A_RANGE = 64  # of a job's work; a restart repeats at most one range a process


class SettingsError(VqaError, ValueError):
    """Settings that are impossible, or that do not fit each other."""


@dataclasses.dataclass(frozen=True)
class DecodeLimits:
    """What one file may use while it is decoded, in a child process; 0 is no limit.

    Wall time depends on the machine and its load, so a limit near the time that good files take
    would make results depend on them too: set it several times above.

    Attributes:
      seconds: wall time that its results are waited for, in all.
      memory_mb: resident memory of the child process, in MiB.
      pixels: of a frame.
      names: what a person knows the first two by, for messages: settings, say.
    """

    seconds: float = 900.0
    memory_mb: int = 4096
    pixels: int = 8192 * 8192  # 8K video, and photographs of 64 megapixels
    names: tuple[str, str] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if min(self.seconds, self.memory_mb, self.pixels) < 0:
            raise SettingsError(f"limits start at 0 (no limit): {self}")


DEFAULT_LIMITS = DecodeLimits()


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a run's stages share.

    Attributes:
      student: a preset of `vqa_jax.models`.
      extractor: SlowFast safetensors; "" is the shipped tiny one.
      severity_simulators: simulators that single frames show: the auxiliary loss asks for kind and
        level.
      tower: safetensors of a pretrained tower, which `tokens` puts beside the corpus's tokens; ""
        is the shipped one.
    """

    student: str = "tiny"
    extractor: str = ""
    severity_simulators: tuple[str, ...] = (
        *("resize", "gaussian_blur", "gaussian_noise", "darken", "brighten", "h264", "h265"),
    )
    tower: str = ""


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """How pairs become batches.

    Attributes:
      batch_size: pairs in a global batch.
      num_frames: most frames (or crops) of a video in a batch; more are drawn at random in
        training and thinned evenly otherwise.
      swap: (A, B) becomes (B, A) with the mirrored label in half of the examples.
      same_crops: share of examples whose two videos show the same crops, where both have as many.
      soft_votes: the level of a pair that teachers voted on is known by chance, see
        `levels.chances`.
      answer: "level" trains the level word alone, "sentence" the whole answer.
      mix: (group, weight) of the pair groups, see `batch.GROUPS`, and "image" for pairs of two
        still pictures, whatever their labels' source; groups that a corpus lacks are left out and
        the weights of the others rescaled. Simulators (and sets with human scores) share theirs
        equally; one that is named ("simulator:stutter") has its own weight instead.
      seed: order, crops and swaps follow from it.
      buckets: (frames, motion clips) that shorter pairs are padded to, besides the longest of all;
        a batch holds pairs of one bucket.
      group_size: pairs that share a video are put together, up to this many, that video first.
    """

    batch_size: int = 32
    num_frames: int = 4
    swap: bool = True
    same_crops: float = 0.5
    soft_votes: bool = False
    answer: str = "level"
    mix: tuple[tuple[str, float], ...] = (
        ("image", 0.1),
        ("simulator", 0.9),
        ("student", 0.1),
        ("teachers", 0.1),
    )
    seed: int = 0
    buckets: tuple[tuple[int, int], ...] = ()
    group_size: int = 1

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> InputConfig:
        """Builds the config from plain values, as configs/ holds them."""
        fields = dict(fields)
        if "mix" in fields:
            fields["mix"] = _sorted(fields["mix"])
        if "buckets" in fields:
            fields["buckets"] = tuple((int(f), int(m)) for f, m in fields["buckets"])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as configs/ hold them; the inverse of `from_dict`."""
        return {**dataclasses.asdict(self), "mix": dict(self.mix)}

    def __post_init__(self) -> None:
        if self.answer not in ("level", "sentence"):
            raise SettingsError(f"answer must be 'level' or 'sentence', not {self.answer!r}")
        if self.group_size < 1 or self.batch_size % self.group_size:
            raise SettingsError(
                f"batch_size {self.batch_size} is not a multiple of group_size {self.group_size}"
            )

    @property
    def num_groups(self) -> int:
        """Rows of a global batch: groups, or pairs where group_size is 1."""
        return self.batch_size // self.group_size

    def bucket_sizes(self, num_motion: int) -> list[tuple[int, int]]:
        """Sizes of all buckets, ascending; each holds all that the ones before it do.

        Raises:
          SettingsError: two buckets of which neither holds the other.
        """
        sizes = sorted({*self.buckets, (self.num_frames, num_motion)})
        if sorted(clips for _, clips in sizes) != [clips for _, clips in sizes]:
            raise SettingsError(f"buckets {sizes}: with the frames, the clips must grow too")
        if sizes[-1] != (self.num_frames, num_motion) or min(sizes[0]) < 1:
            raise SettingsError(
                f"buckets {sizes}: between (1, 1) and {self.num_frames, num_motion}"
            )
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
            raise SettingsError(f"warmup_share must be in (0, 1], got {self.warmup_share}")
        if min(self.start_temperature, self.end_temperature) <= 0:
            raise SettingsError("temperatures must be positive")


Trainable = tuple[tuple[str, float], ...]


EVERYTHING: Trainable = (("*", 1.0),)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """Schedule and regularisation; `warmup_steps` <= `total_steps`."""

    total_steps: int = 500
    warmup_steps: int = 25
    peak_lr: float = 1e-3
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    b2: float = 0.98

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_steps <= self.total_steps:
            raise SettingsError(f"warmup_steps {self.warmup_steps} not in 0..{self.total_steps}")


def _sorted(mapping: Any) -> tuple[tuple[str, Any], ...]:
    """A mapping, or its items, in an order that does not depend on how it was written."""
    return tuple(sorted(dict(mapping).items()))


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
      choice: "hard", or "random" as a control: as many pairs of the same pool, drawn at random.
      std_floor: lowest s_D of teachers and ensemble.
      range_videos: videos of a range of the work; a restart repeats at most one range a process.
    """

    seed: int = 0
    pool_segments: int = 0
    misordered_quota: int = 5_000
    gmad_quota: int = 2_000
    num_bins: int = 20
    max_per_video: int = 8
    unite: str = "rank"
    num_shards: int = 4
    lower_is_better: tuple[str, ...] = ()
    misordered_pools: tuple[dict[str, Any], ...] = ()
    xi: float = 1.0
    labels: str = "student"
    choice: str = "hard"
    std_floor: float = 3.0
    range_videos: int = VIDEOS_A_RANGE

    def __post_init__(self) -> None:
        if self.labels not in ("student", "ensemble"):
            raise SettingsError(f"labels must be student or ensemble, got {self.labels!r}")
        if self.choice not in ("hard", "random"):
            raise SettingsError(f"choice must be hard or random, got {self.choice!r}")
        for pool in self.misordered_pools:
            if set(pool) != {"name", "simulators", "pairs"}:
                raise SettingsError(f"misordered_pools have name, simulators and pairs, got {pool}")
        if self.range_videos < 1 or self.xi < 0:
            raise SettingsError("range_videos starts at 1 and xi at 0")


PROTOCOLS = ("map", "w2s")


EPSILON = 0.12  # of the adaptive mode; measured, see launch/README.md


@dataclasses.dataclass(frozen=True)
class ScoreConfig:
    """How videos are scored.

    Attributes:
      epsilon: > 0: adaptive. Start at the middle anchor, go on with the one next to the estimate,
        stop when a comparison moved q by less than this; 0 compares with all.
      both_orders: also show the video first, and average: twice the comparisons, none cached.
      protocol: "map", or "w2s" for the authors' rule (`w2s_scores`), for comparison only.
      seed: of w2s's random start.
      limits: of each file.
    """

    epsilon: float = 0.0
    both_orders: bool = False
    protocol: str = "map"
    seed: int = 0
    limits: DecodeLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise SettingsError(f"protocol {self.protocol!r}: one of {', '.join(PROTOCOLS)}")
        if self.epsilon < 0:
            raise SettingsError(f"epsilon {self.epsilon} is negative")
        if (self.epsilon > 0) + self.both_orders + (self.protocol == "w2s") > 1:
            raise SettingsError("adaptive, both orders and w2s exclude one another: choose one")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of a run besides the student itself; an unknown field is a TypeError.

    Attributes:
      pair_datasets: pair datasets of the corpus that are trained on (iterations are cumulative).
      init_from: student bundle to start from, or "" for random weights.
      severity_weight: weight of the auxiliary severity loss.
      token_dropout: share of a frozen tower's numbers that a step leaves out, video by video; see
        `training.token_dropout`. 0: none.
      mesh: sizes of data, fsdp, tensor; -1 takes what is left.
      context: devices that share each sequence, for long videos, see `devices.context`; sequences
        are padded to a multiple of twice as many tokens. The mesh has that axis besides its three,
        1: none. Groups of pairs (`input.group_size`) and scoring are not split so.
      log_every: steps between metric rows.
      checkpoint_every: steps between checkpoints.
      keep_best, keep_every: see `checkpoint.Checkpointer`; the best are those of lowest held-out
        loss.
      heldout_pairs: held-out pairs that are asked about before every checkpoint; 0: none.
      local_copies, local_copies_every: folder in each machine's memory for copies of the state
        ("": none), and steps between them; see `training.local_copies`.
      input, optim, loss: see InputConfig, OptimConfig, LossConfig.
      trainable, sharding, attention, remat, unroll: see `training.step.StepConfig`.
      accumulate: parts of a batch that are computed one after the other, each in a part of the
        memory; the step is the same. A device's rows must divide into them.
      lora_rank: rank of low-rank additions to the decoder, 0 for none; they are merged into the
        student that is written.
      lora_base: "int8": in which the matrices below the additions are kept, see `models.lora`; "":
        in the step's `frozen_dtype`.
    """

    pair_datasets: tuple[str, ...] = ("vqa_pairs_1",)
    init_from: str = ""
    severity_weight: float = 0.3
    mesh: tuple[int, int, int] = (-1, 1, 1)
    context: int = 1
    log_every: int = 20
    checkpoint_every: int = 100
    seed: int = 0
    input: InputConfig = InputConfig()
    optim: OptimConfig = OptimConfig()
    loss: LossConfig = LossConfig()
    trainable: Trainable = EVERYTHING
    sharding: tuple[tuple[str, str], ...] = ()
    attention: str = "auto"
    remat: str = "none"
    unroll: int = 0
    lora_rank: int = 0
    lora_base: str = ""
    accumulate: int = 1
    keep_best: int = 0
    keep_every: int = 0
    heldout_pairs: int = 0
    token_dropout: float = 0.0
    local_copies: str = ""
    local_copies_every: int = 10

    def __post_init__(self) -> None:
        if self.accumulate < 1 or self.input.num_groups % self.accumulate:
            raise SettingsError(
                f"accumulate {self.accumulate} does not divide the {self.input.num_groups} rows of"
                " a batch (batch_size / group_size)"
            )
        if self.context < 1 or (self.context > 1 and self.input.group_size > 1):
            raise SettingsError(
                f"context {self.context}: it starts at 1, and pairs that share a video (group_size"
                f" {self.input.group_size}) are not split over devices"
            )
        if not 0 <= self.token_dropout < 1:
            raise SettingsError(f"token_dropout {self.token_dropout} is not in [0, 1)")
        if self.lora_base not in ("", *KEPT_DTYPES) or (self.lora_base and not self.lora_rank):
            raise SettingsError(
                f"lora_base {self.lora_base!r}: int8, which stands below additions (lora_rank"
                f" {self.lora_rank}), or none"
            )
        if self.local_copies_every < 1:
            raise SettingsError(f"local_copies_every {self.local_copies_every}: 1 or more")
        if self.keep_best and not self.heldout_pairs:
            raise SettingsError(
                f"keep_best {self.keep_best}: the best are known by held-out pairs, which "
                "heldout_pairs asks for"
            )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainConfig:
        """Builds the config from plain values, as configs/ holds them."""
        fields = dict(fields)
        built = {
            "pair_datasets": tuple,
            "mesh": tuple,
            "input": InputConfig.from_dict,
            "optim": lambda part: OptimConfig(**part),
            "loss": lambda part: LossConfig(**part),
            "trainable": rules_of,
            "sharding": _sorted,
        }
        for name, build in built.items():
            if name in fields:
                fields[name] = build(fields[name])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as configs/ hold them; the inverse of `from_dict`."""
        return {
            **dataclasses.asdict(self),
            "input": self.input.to_dict(),
            "trainable": dict(self.trainable),
            "sharding": dict(self.sharding),
        }
