"""The nine distortion simulators whose severity order labels pairs (METHOD 3.2).

All take and return uint8 RGB frames [T, H, W, 3] of one size, count levels from 1 (mild), and
are pure functions of (frames, fps, level, seed). Choices where the method leaves room:

- resize: area average down to round(side / s), bicubic up to the source size.
- darken, brighten: the curve acts on V = max(R, G, B) of HSV and the three channels are scaled
  by curve(V) / V, which leaves hue and saturation alone and cannot leave the colour cube.
- jitter: the visible window is (1 - 2m) of the frame, shifted anew for every frame by up to m of
  the sides: m = 1%, 2.5%, 5%. The random directions are the same at every level.
- stutter: p_d = 0.1, 0.3, 0.6; a replaced frame repeats the *shown* previous one. The same
  uniforms serve every level, so a milder level's repeats are a subset of a severer one's.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from data_prep import encode

KINDS = ("spatial", "temporal", "streaming")
JITTER_FRACTIONS = (0.01, 0.025, 0.05)
STUTTER_PROBABILITIES = (0.1, 0.3, 0.6)
# Shortest clip for which every stutter level has more repeats than the one before.
_STUTTER_MIN_FRAMES = 8


class SimulatorError(ValueError):
    """An unknown simulator or level, or frames of the wrong type; the message names the remedy."""


@dataclasses.dataclass(frozen=True)
class Simulator:
    """One kind of distortion with its levels.

    Attributes:
      name: key in `SIMULATORS`.
      kind: "spatial", "temporal" or "streaming".
      parameter_name: what the numbers in `parameters` are.
      parameters: one value a level, mild to severe.
      apply: (frames uint8 [T, H, W, 3], fps, parameter, seed, **options) -> uint8 [T, H, W, 3].
      effective: the value that really acts for a nominal parameter.
      options: keyword arguments of `apply` with their defaults; recorded with every clip.
      random: whether `seed` matters.
    """

    name: str
    kind: str
    parameter_name: str
    parameters: tuple[float, ...]
    apply: Callable[..., np.ndarray]
    effective: Callable[[float], float] = lambda parameter: parameter
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    random: bool = False


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
      h265_preset: speed preset of H.265; "veryslow" is the method's.

    Returns:
      (uint8 [T, H, W, 3], what was done, ready for JSON: simulator, kind, level, parameter (its
      name), value, effective, and the options and seed that matter.) Temporal simulators
      return a one-frame clip unchanged.

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
    if name == "h265":
        options["preset"] = h265_preset
    distorted = simulator.apply(frames, fps, value, seed, **options)
    record = {
        "simulator": name,
        "kind": simulator.kind,
        "level": level,
        "parameter": simulator.parameter_name,
        "value": value,
        "effective": simulator.effective(value),
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


def _rng(seed: int, *purpose: str) -> np.random.Generator:
    """The random stream of one source seed and one purpose, the same on every machine."""
    digest = hashlib.sha256("/".join(purpose).encode()).digest()
    words = np.frombuffer(digest[:16], dtype="<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence([int(seed), *words]))


def _resize(frames: np.ndarray, fps: float, factor: float, seed: int) -> np.ndarray:
    height, width = frames.shape[1:3]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        reduced = cv2.resize(source, small, interpolation=cv2.INTER_AREA)
        target[:] = cv2.resize(reduced, (width, height), interpolation=cv2.INTER_CUBIC)
    return out


def _gaussian_blur(frames: np.ndarray, fps: float, sigma: float, seed: int) -> np.ndarray:
    side = 2 * math.ceil(3 * sigma) + 1
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        target[:] = cv2.GaussianBlur(source, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return out


def _gaussian_noise(frames: np.ndarray, fps: float, variance: float, seed: int) -> np.ndarray:
    # The variance is part of the stream's name: two levels of a source must not share one noise
    # pattern, by which a pair could be recognised.
    rng = _rng(seed, "gaussian_noise", repr(variance))
    scale = np.float32(255 * math.sqrt(variance))
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        noisy = rng.standard_normal(source.shape, dtype=np.float32)
        noisy *= scale
        noisy += source
        target[:] = np.rint(np.clip(noisy, 0, 255, out=noisy), out=noisy)
    return out


def tone_curve(value: np.ndarray, strength: float) -> np.ndarray:
    """The parabola through (0, 0), (0.5, 0.5 + strength / 2), (1, 1), clipped to [0, 1].

    Args:
      value: float array in [0, 1].
      strength: p of METHOD 3.2, negative to darken.
    """
    return np.clip(value + 2 * strength * value * (1 - value), 0, 1)


def _tone(frames: np.ndarray, strength: float) -> np.ndarray:
    grid = np.arange(256) / 255
    gain = np.ones(256, np.float32)  # V = 0 is black under any gain
    gain[1:] = tone_curve(grid[1:], strength) / grid[1:]
    out = np.empty_like(frames)
    for source, target in zip(frames, out, strict=True):
        red, green, blue = cv2.split(source)
        gains = cv2.LUT(cv2.max(cv2.max(red, green), blue), gain)
        target[:] = cv2.multiply(source, cv2.merge((gains, gains, gains)), dtype=cv2.CV_8U)
    return out


def _darken(frames: np.ndarray, fps: float, strength: float, seed: int) -> np.ndarray:
    return _tone(frames, -strength)


def _brighten(frames: np.ndarray, fps: float, strength: float, seed: int) -> np.ndarray:
    return _tone(frames, strength)


def jitter_directions(num_frames: int, seed: int) -> np.ndarray:
    """Shift of every frame in units of the level's largest, float64 [T, 2] (x, y) in [-1, 1]."""
    return _rng(seed, "jitter").uniform(-1, 1, (num_frames, 2))


def _jitter(frames: np.ndarray, fps: float, fraction: float, seed: int) -> np.ndarray:
    count, height, width = frames.shape[:3]
    if count == 1:
        return frames.copy()
    window = 1 - 2 * fraction
    out = np.empty_like(frames)
    directions = jitter_directions(count, seed)
    for source, target, direction in zip(frames, out, directions, strict=True):
        # Output pixel x shows source position window * (x + 0.5) + left - 0.5 (pixel centres).
        left, top = fraction * (1 + direction) * (width, height)
        matrix = np.array(
            [
                [window, 0, left + 0.5 * window - 0.5],
                [0, window, top + 0.5 * window - 0.5],
            ]
        )
        target[:] = cv2.warpAffine(
            source,
            matrix,
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return out


def stutter_sources(num_frames: int, probability: float, seed: int) -> np.ndarray:
    """Which source frame each output frame shows, int64 [T]; frame 0 shows itself.

    With at least 8 frames, every level of `STUTTER_PROBABILITIES` has at least one repeat more
    than the level before (a draw that would not is corrected).
    """
    uniforms = _rng(seed, "stutter").uniform(size=num_frames - 1)
    if num_frames >= _STUTTER_MIN_FRAMES:
        _spread(uniforms)
    sources = np.arange(num_frames)
    sources[1:][uniforms < probability] = 0
    return np.maximum.accumulate(sources)


def _spread(uniforms: np.ndarray) -> None:
    """Moves values, in place, until every interval between two probabilities holds one."""
    edges = (0.0, *STUTTER_PROBABILITIES)
    for index in range(len(STUTTER_PROBABILITIES)):
        bins = np.searchsorted(STUTTER_PROBABILITIES, uniforms, side="right")
        if np.any(bins == index):
            continue
        middle = (edges[index] + edges[index + 1]) / 2
        # Only a bin with a value to spare gives one; the last bin (never repeated) may be emptied.
        spare = np.bincount(bins, minlength=len(edges))[bins] > 1
        spare |= bins == len(STUTTER_PROBABILITIES)
        distance = np.where(spare, np.abs(uniforms - middle), np.inf)
        uniforms[np.argmin(distance)] = middle


def _stutter(frames: np.ndarray, fps: float, probability: float, seed: int) -> np.ndarray:
    return frames[stutter_sources(len(frames), probability, seed)]


def _h264(frames: np.ndarray, fps: float, crf: float, seed: int, preset: str) -> np.ndarray:
    return encode.encode_decode(frames, fps, encode.EncodeConfig("h264", crf, preset))


def _h265(frames: np.ndarray, fps: float, crf: float, seed: int, preset: str) -> np.ndarray:
    return encode.encode_decode(frames, fps, encode.EncodeConfig("h265", crf, preset))


def _effective_crf(crf: float) -> float:
    return min(crf, encode.MAX_CRF)


SIMULATORS: dict[str, Simulator] = {
    simulator.name: simulator
    for simulator in (
        Simulator("resize", "spatial", "factor", (2, 3, 4, 8, 16), _resize),
        Simulator("gaussian_blur", "spatial", "sigma", (0.1, 0.5, 1, 2, 5), _gaussian_blur),
        Simulator(
            "gaussian_noise",
            "spatial",
            "variance",
            (0.001, 0.002, 0.003, 0.005, 0.01),
            _gaussian_noise,
            random=True,
        ),
        Simulator("darken", "spatial", "strength", (0.05, 0.1, 0.2, 0.4, 0.8), _darken),
        Simulator("brighten", "spatial", "strength", (0.1, 0.2, 0.4, 0.7, 1.1), _brighten),
        Simulator("jitter", "temporal", "fraction", JITTER_FRACTIONS, _jitter, random=True),
        Simulator(
            "stutter", "temporal", "probability", STUTTER_PROBABILITIES, _stutter, random=True
        ),
        Simulator(
            "h264",
            "streaming",
            "crf",
            (24, 36, 48, 63),
            _h264,
            effective=_effective_crf,
            options={"preset": "fast"},
        ),
        Simulator(
            "h265",
            "streaming",
            "crf",
            (36, 40, 44, 48),
            _h265,
            effective=_effective_crf,
            options={"preset": "veryslow"},
        ),
    )
}
