"""Distortion simulators: their severity order labels pairs (method 3.2).

All take and return uint8 RGB frames [T, H, W, 3] of one size, count levels from 1 (mild), and
are pure functions of (frames, fps, level, seed). Each is listed once, at the end of the module of
its kind. The method's nine are resize, gaussian_blur, gaussian_noise, darken, brighten, jitter,
stutter, h264 and h265; all others are beyond it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.simulators import (
    coding,
    mixed,
    optics,
    processing,
    sensor,
    spatial,
    streaming,
    temporal,
    transmission,
)
from data_prep.simulators.base import KINDS, MAX_LEVELS, Simulator, SimulatorError

__all__ = [
    "KINDS",
    "MAX_LEVELS",
    "SIMULATORS",
    "Simulator",
    "SimulatorError",
    "effective_levels",
    "expand",
    "simulate",
]

_MODULES = (
    *(spatial, temporal, streaming, mixed),
    *(optics, sensor, processing, coding, transmission),
)
SIMULATORS: dict[str, Simulator] = {
    simulator.name: simulator for module in _MODULES for simulator in module.SIMULATORS
}


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Replaces every kind among `names` by all simulators of that kind; other names stay."""
    found: list[str] = []
    for name in names:
        found += [s.name for s in SIMULATORS.values() if s.kind == name] or [name]
    return tuple(found)


def simulate(
    frames: np.ndarray,
    fps: float,
    name: str,
    level: int,
    seed: int,
    h265_preset: str = "veryslow",
) -> tuple[np.ndarray, dict[str, Any]]:
    """Distorts a clip.

    Args:
      frames: uint8 RGB [T, H, W, 3], T >= 1; not changed.
      fps: frames a second, > 0 (used by the encoders).
      name: key of `SIMULATORS`.
      level: 1 (mild) to the number of the simulator's levels; 0, the source, is not made here.
      seed: the source's seed, any integer >= 0. Every simulator derives its own stream from it.
      h265_preset: speed preset of H.265, alone or in a chain; "veryslow" is the method's.

    Returns:
      (uint8 [T, H, W, 3], what was done, ready for JSON: simulator, kind, level, parameter (its
      name), value, effective, and the options and seed that matter; encodes say codec, encoder
      and preset. A chain's parameter, value and effective hold one entry a step.) Temporal
      simulators return a one-frame clip unchanged.

    Raises:
      SimulatorError: unknown name or level, or frames that are not uint8 [T, H, W, 3].
      encode.EncodeError: the encoder refuses (preset, rate).
    """
    if name not in SIMULATORS:
        raise SimulatorError(f"simulator {name!r} is not one of {sorted(SIMULATORS)}")
    simulator = SIMULATORS[name]
    if not 1 <= level <= len(simulator.parameters):
        raise SimulatorError(f"{name} has levels 1 to {len(simulator.parameters)}, not {level}")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise SimulatorError(
            f"frames are {frames.dtype} {frames.shape}: give uint8 RGB [T, H, W, 3], T >= 1"
        )
    value = simulator.parameters[level - 1]
    options = dict(simulator.options)
    if options.get("codec") == "h265":
        options["preset"] = h265_preset
    distorted = simulator.apply(frames, fps, value, seed, **options)
    record = {
        "simulator": name,
        "kind": simulator.kind,
        "level": level,
        "parameter": simulator.parameter_name,
        "value": value,
        "effective": simulator.effective(value, fps),
        **options,
    }
    if simulator.random:
        record["seed"] = int(seed)
    return distorted, record


def effective_levels(views: Sequence[Any]) -> list[int]:
    """Levels that a student can tell from the source and from the level kept before.

    Args:
      views: per level, 0 = source, what the student sees: an array, or a tuple of arrays
        (key frames, motion clips).

    Returns:
      Ascending level numbers, without 0. A pair with another level would have a noise label.
    """
    views = [view if isinstance(view, tuple) else (view,) for view in views]
    kept = [0]
    for level in range(1, len(views)):
        if not any(_equal(views[level], views[other]) for other in {0, kept[-1]}):
            kept.append(level)
    return kept[1:]


def _equal(first: tuple, second: tuple) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(a, b) for a, b in zip(first, second, strict=True)
    )
