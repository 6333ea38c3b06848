"""What the preparation job reads, samples, distorts and writes."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from data_prep.simulators import SIMULATORS
from vqa_jax import teachers as teachers_lib
from vqa_jax.frames import Preprocess


@dataclasses.dataclass(frozen=True)
class PrepConfig:
    """Settings of the preparation job (METHOD 3 and 4).

    An unknown field is a TypeError, an impossible value or an unknown name a ValueError.

    Attributes:
      seed: everything random follows from it and from the keys of what is sampled.
      heldout_fraction: share of sources kept for evaluation, chosen by key hash, unless the
        input folder brings its own split (`scenes.json`); 1 holds out everything in any case.
      segments_per_source: segments cut evenly from each source; many short ones teach more than
        few long ones.
      heldout_segments: the same for held-out sources.
      segment_seconds: length of a segment; at least `clip_len` frames are taken. 0 keeps all,
        for short clips only: a segment is held in memory.
      window: a segment is cut to at most this many pixels (width, height) at native scale; (0, 0)
        keeps the frame.
      simulators: names of the distortion simulators.
      simulators_per_segment: how many of them a training segment gets, in turn (0 = all);
        held-out segments always get all.
      h265_preset: x265 preset; the paper's is "veryslow", recorded in every record.
      teachers: names of the built-in teachers that score every video.
      num_buckets: shards are formed from this many hash buckets of sources.
      preprocess: how the student sees a video (frames.Preprocess fields).
    """

    seed: int
    heldout_fraction: float
    segments_per_source: int
    heldout_segments: int
    segment_seconds: float
    window: tuple[int, int]
    simulators: tuple[str, ...]
    simulators_per_segment: int
    h265_preset: str
    teachers: tuple[str, ...]
    num_buckets: int
    preprocess: Preprocess

    def __post_init__(self) -> None:
        if not 0 <= self.heldout_fraction <= 1:
            raise ValueError(f"heldout_fraction {self.heldout_fraction} is not in [0, 1]")
        if min(self.segments_per_source, self.heldout_segments, self.num_buckets) < 1:
            raise ValueError("segments_per_source, heldout_segments and num_buckets start at 1")
        if min(self.segment_seconds, self.simulators_per_segment, *self.window) < 0:
            raise ValueError("segment_seconds, simulators_per_segment and window start at 0")
        for kind, names, known in (
            ("simulator", self.simulators, SIMULATORS),
            ("teacher", self.teachers, teachers_lib.names()),
        ):
            unknown = sorted(set(names) - set(known))
            if unknown or len(set(names)) != len(names):
                raise ValueError(f"{kind}s: unknown {unknown} or repeated; known: {sorted(known)}")

    @classmethod
    def from_dict(cls, fields: dict) -> PrepConfig:
        """Builds the config from plain values, as configs/ holds them."""
        fields = dict(fields)
        fields["preprocess"] = Preprocess(**dict(fields["preprocess"]))
        for name in ("window", "simulators", "teachers"):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    def fingerprint(self) -> str:
        """Short hash of every setting; equal fingerprints and inputs give equal shards."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
