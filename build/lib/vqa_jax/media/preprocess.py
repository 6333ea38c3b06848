"""How a video becomes the student's input: settings alone, which records and models carry.

Apart from `vqa_jax.media.view`, which applies them, so that they can be read without video tools.
"""

import dataclasses
import hashlib
import json
import math
from typing import Any

# Part of every fingerprint: raise it when a rule of `vqa_jax.media.view` changes what the same
# settings produce.
_RULES_VERSION = 1

VIEWS = ("squash", "crops", "fit")
FIT_STEP = 32  # sides of fitted frames are multiples: a tower halves them five times
_FIT_ASPECTS = (1.0, 4 / 3, 7 / 4)  # long side by short side


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How a video becomes the student's input; stored in records and models.

    Attributes:
      view: "squash", every key frame whole, its aspect not kept; "crops", tiles at native scale;
        "fit", every key frame whole, scaled to one viewing size in the nearest of a few shapes.
      image_size: side that the student sees, pixels; fit: the short side, a multiple of 32.
      tile_size: crops: side of the stored tiles, at least image_size; training draws
        image_size crops inside them, scoring takes the centre.
      num_tiles: crops: tiles of a video, spread over its key frames and over positions.
      max_key_frames: key frames used at most, thinned evenly; 0 for all.
      motion_size: side of the motion clips, pixels.
      clip_len: frames of a motion clip.
      min_clips: fewer clips are filled up with the last one.
      max_clips: of more clips, the first ones are used (squash) or evenly spread ones (crops).
    """

    view: str = "squash"
    image_size: int = 384
    tile_size: int = 0
    num_tiles: int = 0
    max_key_frames: int = 0
    motion_size: int = 224
    clip_len: int = 32
    min_clips: int = 8
    max_clips: int = 10

    def __post_init__(self) -> None:
        if self.view not in VIEWS:
            raise ValueError(f"view must be one of {', '.join(VIEWS)}, not {self.view!r}")
        if min(self.image_size, self.motion_size, self.clip_len) < 1:
            raise ValueError("image_size, motion_size and clip_len must be at least 1")
        if self.max_key_frames < 0 or not 0 <= self.min_clips <= self.max_clips:
            raise ValueError("need max_key_frames >= 0 and 0 <= min_clips <= max_clips")
        if self.view == "crops" and (self.tile_size < self.image_size or self.num_tiles < 1):
            raise ValueError("view 'crops' needs tile_size >= image_size and num_tiles >= 1")
        if self.view == "fit" and self.image_size % FIT_STEP:
            raise ValueError(f"view 'fit' needs an image_size that is a multiple of {FIT_STEP}")

    def fit_shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the shapes that the view "fit" scales to: five, lying and standing."""
        short = self.image_size
        longs = [round(short * aspect / FIT_STEP) * FIT_STEP for aspect in _FIT_ASPECTS]
        lying = [(short, long) for long in longs]
        return (*lying, *((long, short) for _, long in lying[1:]))

    def fit_shape(self, height: int, width: int) -> tuple[int, int]:
        """The shape of the nearest aspect for a frame; wider and higher ones are squeezed."""
        wanted = math.log(width / height)
        return min(self.fit_shapes(), key=lambda hw: abs(math.log(hw[1] / hw[0]) - wanted))

    def to_json(self) -> str:
        """All fields as one JSON object with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Preprocess":
        """Inverse of `to_json`; unknown fields are an error, missing ones take their defaults."""
        fields: dict[str, Any] = json.loads(text)
        unknown = sorted(fields.keys() - {f.name for f in dataclasses.fields(cls)})
        if unknown:
            raise ValueError(f"unknown preprocessing fields {unknown}: written by a newer version?")
        return cls(**fields)

    def fingerprint(self) -> str:
        """16 hex digits that differ whenever the same file may give another input."""
        text = f"{_RULES_VERSION}:{self.to_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]
