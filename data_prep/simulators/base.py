"""What a distortion simulator is, and the random stream that each derives from a source's seed."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from vqa_jax.errors import VqaError

KINDS = (
    *("spatial", "temporal", "streaming", "mixed"),
    *("optics", "sensor", "processing", "coding", "transmission"),
)
MAX_LEVELS = 5  # a student's severity head has this many classes a simulator

Parameter = float | tuple[float, ...]


class SimulatorError(VqaError, ValueError):
    """An unknown simulator or level, or frames of the wrong type; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """What is known of a clip before its first frame.

    Attributes:
      num_frames: how many there are, at least 1.
      height: of each, pixels.
      width: of each.
      fps: frames a second, > 0.
    """

    num_frames: int
    height: int
    width: int
    fps: float

    def __post_init__(self) -> None:
        if min(self.num_frames, self.height, self.width) < 1:
            raise SimulatorError(f"{self}: give uint8 RGB frames, one at least, of one pixel")


def _nominal(parameter: Parameter, fps: float) -> Parameter:
    return parameter


@dataclasses.dataclass(frozen=True)
class Simulator:
    """One kind of distortion with its levels.

    Attributes:
      name: key in `SIMULATORS`.
      kind: one of `KINDS`; a config may name the kind to get all its simulators.
      parameter_name: what the numbers in `parameters` are; one name a step for a chain.
      parameters: one value a level, mild to severe, at most `MAX_LEVELS`.
      apply: (iterator of a clip's frames uint8 [H, W, 3], Clip, parameter, seed, **options) -> an
        iterator of as many; it holds few of them at a time, and what it is given stays as it is.
      effective: (parameter, fps) -> the value that really acts for a nominal parameter.
      options: keyword arguments of `apply` with their defaults; recorded with every clip.
      random: whether `seed` matters.
      by_frame: whether each frame is changed by itself, whatever was before it, so that those that
        nobody looks at need not be made.
      of_motion: whether it only shows frames at other times, or their means, so that nothing of it
        is to be seen where nothing moves.
    """

    name: str
    kind: str
    parameter_name: str | tuple[str, ...]
    parameters: tuple[Parameter, ...]
    apply: Callable[..., Iterator[np.ndarray]]
    effective: Callable[[Parameter, float], Parameter] = _nominal
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    random: bool = False
    by_frame: bool = False
    of_motion: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SimulatorError(f"{self.name}: kind {self.kind!r} is not one of {KINDS}")
        if not 1 <= len(self.parameters) <= MAX_LEVELS:
            raise SimulatorError(
                f"{self.name} has {len(self.parameters)} levels: 1 to {MAX_LEVELS} are possible"
            )


def random_stream(seed: int, *purpose: str) -> np.random.Generator:
    """The random stream of one source seed and one purpose, the same on every machine."""
    digest = hashlib.sha256("/".join(purpose).encode()).digest()
    words = np.frombuffer(digest[:16], dtype="<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([int(seed), *words]))
