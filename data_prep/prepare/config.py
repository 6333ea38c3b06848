"""Settings of preparation, once: what is read, sampled and distorted, and how pairs are drawn."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from data_prep.prepare.pools import Pool
from data_prep.simulators import SIMULATORS, expand
from data_prep.simulators.encode import PRESETS
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.settings import DecodeLimits, SettingsError
from vqa_jax.teachers import looks, measures

HDR_RULES = ("tone_map", "refuse")
TRUNCATED_RULES = ("use", "refuse")
DUPLICATE_RULES = ("near", "exact", "off")
TINY_VIEW = Preprocess(
    view="crops",
    image_size=64,
    tile_size=80,
    num_tiles=12,
    max_key_frames=8,
    motion_size=56,
    clip_len=32,
    min_clips=1,
    max_clips=2,
)


@dataclasses.dataclass(frozen=True)
class PrepConfig:
    """Settings of the preparation job (method 3 and 4).

    An unknown field is a TypeError, an impossible value or an unknown name a SettingsError.

    Attributes:
      seed: everything random follows from it and from the keys of what is sampled.
      heldout_fraction: share of sources kept for evaluation, chosen by key hash, unless the
        input folder brings its own split (`scenes.json`); 1 holds out everything in any case.
      segments_per_source: segments cut evenly from each source; many short ones teach more than
        few long ones.
      heldout_segments: the same for held-out sources.
      segment_seconds: length of a segment; at least `clip_len` frames are taken. 0 keeps all.
      window: a segment is cut to at most this many pixels (width, height) at native scale; (0, 0)
        keeps the frame.
      simulators: names of the distortion simulators. `from_dict` takes a kind (simulators.KINDS)
        for all its simulators, here and in pools.
      simulators_per_segment: how many of them a training segment gets, in turn (0 = all);
        held-out segments always get all.
      h265_preset: x265 preset, recorded in every record; the paper's is "veryslow", "fast" the
        cheap choice.
      teachers: names of the built-in teachers that score every video.
      vmaf: versions by compression and scaling get VMAF against their source, in a column of the
        video table; needs FFmpeg with libvmaf (the extra `vmaf`).
      teacher_views: names of neural teachers (`looks.LOOKS`) that can score every version by
        `teachers score --data`: what they look at is kept, megabytes a version.
      num_buckets: shards are formed from this many hash buckets of sources, or more, see below.
      preprocess: how the student sees a video (preprocess.Preprocess fields).
      sources_per_bucket: there are as many more buckets as this many sources in each ask for.
      pools: parts of the training sources with simulators of their own (method 3.3); without any,
        all training sources get `simulators`. Held-out sources get `simulators` in any case.
      hdr: what becomes of PQ and HLG videos, one of HDR_RULES.
      truncated: what becomes of files that hold less than they promise, one of TRUNCATED_RULES;
        used ones are noted in the video table.
      stills: still images are inputs too, as videos of one frame.
      standing_stills: share of the stills' versions whose motion features are those of a second
        that shows nothing else; the others' are zero (method 4). [beyond the method]
      deduplicate: copies of which kind are left out, one of DUPLICATE_RULES.
      limit_seconds: longest time that one file may take, to probe and again to prepare; 0: any.
        Several times what good files take, or the corpus depends on the machine's load.
      limit_pixels: most pixels of a frame; 0: any.
      limit_memory_mb: most memory, in MB, that a file may take; 0: any. With both this and
        limit_seconds 0, files are decoded in the worker itself, and one that hangs or crashes
        takes it along.
    """

    seed: int = 0
    heldout_fraction: float = 0.2
    segments_per_source: int = 2
    heldout_segments: int = 1
    segment_seconds: float = 1.0
    window: tuple[int, int] = (384, 288)
    simulators: tuple[str, ...] = (
        *("resize", "gaussian_blur", "gaussian_noise", "darken", "brighten"),
        *("jitter", "stutter", "h264", "h265"),
    )
    simulators_per_segment: int = 0
    h265_preset: str = "veryslow"
    teachers: tuple[str, ...] = (
        *("niqe", "brisque_distance", "sharpness", "blockiness", "noise", "exposure"),
        "temporal_smoothness",
    )
    vmaf: bool = False
    teacher_views: tuple[str, ...] = ()
    num_buckets: int = 16
    preprocess: Preprocess = TINY_VIEW
    sources_per_bucket: int = 64
    pools: tuple[Pool, ...] = ()
    hdr: str = "tone_map"
    truncated: str = "use"
    stills: bool = False
    standing_stills: float = 0.0
    deduplicate: str = "near"
    limit_seconds: float = DecodeLimits.seconds
    limit_pixels: int = DecodeLimits.pixels
    limit_memory_mb: int = DecodeLimits.memory_mb

    def __post_init__(self) -> None:
        for name in ("heldout_fraction", "standing_stills"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise SettingsError(f"{name} {share} is not in [0, 1]")
        if min(self.segments_per_source, self.heldout_segments, self.num_buckets) < 1:
            raise SettingsError("segments_per_source, heldout_segments and num_buckets start at 1")
        if min(self.segment_seconds, self.simulators_per_segment, *self.window) < 0:
            raise SettingsError("segment_seconds, simulators_per_segment and window start at 0")
        if self.sources_per_bucket < 1:
            raise SettingsError("sources_per_bucket starts at 1")
        if min(self.limit_seconds, self.limit_pixels, self.limit_memory_mb) < 0:
            raise SettingsError("limit_seconds, limit_pixels, limit_memory_mb start at 0 (none)")
        if self.hdr not in HDR_RULES or self.deduplicate not in DUPLICATE_RULES:
            raise SettingsError(
                f'hdr "{self.hdr}" is one of {HDR_RULES}, deduplicate "{self.deduplicate}" one of'
                f" {DUPLICATE_RULES}"
            )
        if self.truncated not in TRUNCATED_RULES:
            raise SettingsError(f'truncated "{self.truncated}" is not one of {TRUNCATED_RULES}')
        if self.h265_preset not in PRESETS["h265"]:
            raise SettingsError(f'h265_preset "{self.h265_preset}" is not one of {PRESETS["h265"]}')
        if len({pool.name for pool in self.pools}) != len(self.pools):
            raise SettingsError(f"pools: repeated names {[pool.name for pool in self.pools]}")
        for kind, names, known in (
            ("simulator", self.simulators, SIMULATORS),
            *(("simulator", pool.simulators, SIMULATORS) for pool in self.pools),
            ("teacher", self.teachers, measures.names()),
            ("teacher_view", self.teacher_views, looks.LOOKS),
        ):
            unknown = sorted(set(names) - set(known))
            if unknown or len(set(names)) != len(names):
                raise SettingsError(
                    f"{kind}s: unknown {unknown} or repeated; known: {sorted(known)}"
                )

    @classmethod
    def from_dict(cls, fields: dict) -> PrepConfig:
        """Builds the config from plain values, as configs/ holds them."""
        fields = dict(fields)
        built = {
            "preprocess": lambda part: Preprocess(**part),
            "window": tuple,
            "teachers": tuple,
            "teacher_views": tuple,
            "simulators": expand,
            "pools": lambda pools: tuple(map(_pool, pools)),
        }
        for name, build in built.items():
            if name in fields:
                fields[name] = build(fields[name])
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as configs/ hold them; the inverse of `from_dict`."""
        return dataclasses.asdict(self)

    def datasets(self) -> dict[str, str]:
        """Datasets of a corpus's shards: name -> kind of record."""
        kept = {looks.dataset(name): "vqa_views" for name in looks.needed(self.teacher_views)}
        return {"vqa_videos": "vqa_videos", "vqa_clips": "vqa_clips", **kept}

    def fingerprint(self) -> str:
        """Short hash of every setting; equal fingerprints and inputs give equal shards.

        A setting that came later counts only where it is not what went without saying before, so
        that corpora made before it keep theirs.
        """
        told = self.to_dict()
        if told["truncated"] == "use":
            del told["truncated"]
        for name in ("vmaf", "teacher_views", "standing_stills"):
            if not told[name]:
                del told[name]
        text = json.dumps(told, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pool(fields: Mapping[str, Any]) -> Pool:
    return Pool(**{**fields, "simulators": expand(fields["simulators"])})


Wanted = int | Mapping[str, float]
# Settings of pairs that earlier versions lacked.
_LATER = ("across", "teachers_on_sources", "teachers_order", "voted_only", "permuted")


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """How many pairs are drawn and how the teachers vote.

    Numbers of pairs are one number for every label, or label -> number, or
    {"total": N, label: share, ...} (a total alone is shared equally); see `table.label_quota`.

    Attributes:
      seed: of the draws.
      simulator_per_label: training pairs of the four simulator labels; or kind of simulator
        (simulators.KINDS) -> such numbers, as in method 3.3.
      teachers_per_label: training pairs of the five labels by teachers, of sources and versions.
      teachers_on_sources: training pairs of the five labels by teachers, of undistorted sources
        alone: most pairs of sources and versions compare distortions, not contents.
      across: training pairs of a source that the teachers call good and another's worst version,
        see `vqa_jax.pairs.across` [beyond method 3.2].
      teachers_order: share of pairs of versions that the teachers must order as a simulator's
        levels do; they have no vote on versions by the others, see `vqa_jax.pairs.known_order`
        [beyond method 3.1]. 0: they vote on all.
      voted_only: sources that no teacher scored, such as those of a kind that is left out of the
        teachers' fit, are in no pair at all.
      permuted: training labels are dealt anew among the pairs of one label source, as a control:
        whatever a student learns of them is no quality.
      unite: "rank" or "logistic": how the teachers' scales become one.
      std_floor: lowest s_D in united score units (0..100); see method 3.1.
      num_shards: pair shards of a split.
      lower_is_better: imported teachers whose lower scores are the better ones.
    """

    seed: int = 0
    simulator_per_label: Wanted | Mapping[str, Wanted] = 10_000
    teachers_per_label: Wanted = 1_000
    unite: str = "rank"
    std_floor: float = 3.0
    num_shards: int = 4
    lower_is_better: tuple[str, ...] = ()
    across: int = 0
    teachers_on_sources: Wanted = 0
    teachers_order: float = 0.0
    voted_only: bool = False
    permuted: bool = False

    def as_json(self) -> dict[str, Any]:
        """The settings as a JSON file gives them back.

        One that came later counts only where it does something, so that pairs drawn before it
        stay those of their settings.
        """
        told = {**dataclasses.asdict(self), "lower_is_better": sorted(self.lower_is_better)}
        return {k: v for k, v in told.items() if k not in _LATER or v}


@dataclasses.dataclass(frozen=True)
class HumanConfig:
    """How pairs follow from human scores, for fine-tuning.

    Attributes:
      seed: of the draws.
      per_label: pairs of each label, set and split, see `table.label_quota`; fewer where a set
        does not hold more.
      margin: s_D of videos without a known deviation, as a share of the MOS's deviation over the
        set.
      ratings: how many ratings a mean opinion is taken to rest on where the table gives their
        deviation, but not their number.
      num_shards: pair shards of a split.
    """

    seed: int = 0
    per_label: Wanted = 2_000
    margin: float = 0.4
    ratings: int = 30
    num_shards: int = 4

    def __post_init__(self) -> None:
        if self.margin <= 0 or self.ratings < 1 or self.num_shards < 1:
            raise SettingsError("human.margin must be above 0, ratings and num_shards at least 1")
