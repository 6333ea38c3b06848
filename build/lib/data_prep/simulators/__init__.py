"""Distortion simulators: their severity order labels pairs (method 3.2).

All take and return iterators of uint8 RGB frames [H, W, 3] of one size, hold few of them at a
time, count levels from 1 (mild), and are pure functions of (frames, clip, level, seed). Each is
listed once, at the end of the module of its kind. The method's nine are resize, gaussian_blur,
gaussian_noise, darken, brighten, jitter, stutter, h264 and h265; all others are beyond it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from data_prep.simulators import (
    coding,
    encode,
    mixed,
    optics,
    processing,
    sensor,
    spatial,
    streaming,
    temporal,
    transmission,
)
from data_prep.simulators.base import KINDS, MAX_LEVELS, Clip, Simulator, SimulatorError

__all__ = [
    "KINDS",
    "MAX_LEVELS",
    "SIMULATORS",
    "Clip",
    "Simulator",
    "SimulatorError",
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
    frames: Iterable[np.ndarray],
    clip: Clip,
    name: str,
    level: int,
    seed: int,
    h265_preset: str = "veryslow",
) -> tuple[Iterator[np.ndarray], dict[str, Any]]:
    """Distorts a clip, frame by frame, as its frames come.

    Args:
      frames: uint8 RGB [H, W, 3], as many as `clip` says; not changed.
      clip: their number, size and rate.
      name: key of `SIMULATORS`.
      level: 1 (mild) to the number of the simulator's levels; 0, the source, is not made here.
      seed: the source's seed, any integer >= 0. Every simulator derives its own stream from it.
      h265_preset: speed preset of H.265, alone or in a chain; "veryslow" is the method's.

    Returns:
      (iterator of uint8 [H, W, 3], what is done, ready for JSON: simulator, kind, level, parameter
      (its name), value, effective, and the options and seed that matter; encodes say codec,
      encoder and preset. A chain's parameter, value and effective hold one entry a step.) The
      iterator may give one array several times, or those that it was given. Temporal simulators
      return a one-frame clip unchanged.

    Raises:
      SimulatorError: unknown name or level, or (while it goes) frames that are not uint8 RGB of the
        clip's size and number.
      encode.EncodeError: (while it goes) the encoder refuses (preset, rate), or loses a frame.
    """
    if name not in SIMULATORS:
        raise SimulatorError(f"simulator {name!r} is not one of {sorted(SIMULATORS)}")
    simulator = SIMULATORS[name]
    if not 1 <= level <= len(simulator.parameters):
        raise SimulatorError(f"{name} has levels 1 to {len(simulator.parameters)}, not {level}")
    value = simulator.parameters[level - 1]
    options = dict(simulator.options)
    if options.get("codec") == "h265":
        options["preset"] = h265_preset
    distorted = simulator.apply(_checked(frames, clip), clip, value, seed, **options)
    record = {
        "simulator": name,
        "kind": simulator.kind,
        "level": level,
        "parameter": simulator.parameter_name,
        "value": value,
        "effective": simulator.effective(value, clip.fps),
        **options,
    }
    if simulator.random:
        record["seed"] = int(seed)
    return _whole(distorted, clip, name), record


def _checked(frames: Iterable[np.ndarray], clip: Clip) -> Iterator[np.ndarray]:
    shape, count = (clip.height, clip.width, 3), 0
    for frame in frames:
        if frame.dtype != np.uint8 or frame.shape != shape:
            raise SimulatorError(f"a frame is {frame.dtype} {frame.shape}: give uint8 RGB {shape}")
        count += 1
        yield frame
    if count != clip.num_frames:
        raise SimulatorError(f"{count} frames were given as a clip of {clip.num_frames}")


def _whole(frames: Iterator[np.ndarray], clip: Clip, name: str) -> Iterator[np.ndarray]:
    """Frames in one piece of memory each; as many as went in."""
    count = 0
    for frame in frames:
        count += 1
        yield np.ascontiguousarray(frame)
    if count != clip.num_frames:
        raise encode.EncodeError(f"{name} gave {count} frames back for {clip.num_frames}")
