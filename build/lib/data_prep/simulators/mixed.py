"""Chains capture -> compress, as a camera and then a platform make them (beyond method 3.2).

Two steps order severities only in part: more noise with less compression is neither better nor
worse. So a chain's levels only ever add: from one to the next every step keeps its parameter or
takes a severer one, and all its levels are comparable.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.simulators import spatial, streaming
from data_prep.simulators.base import Clip, Parameter, Simulator, SimulatorError

# Capture name -> its simulator and, level by level, its parameter.
_CAPTURES = {
    "noise": ("gaussian_noise", (0.001, 0.003, 0.01)),
    "blur": ("gaussian_blur", (1, 2, 5)),
    "darken": ("darken", (0.1, 0.2, 0.4)),
}
# Compression smooths noise away, so a step from light to strong compression could look better.
# All levels are beyond that point, and far apart.
_CODECS = ("h264", "h265")
_CRFS = (36, 42, 48)


def chain(
    name: str, capture: Simulator, compress: Simulator, levels: Sequence[tuple[float, float]]
) -> Simulator:
    """A simulator that applies `capture`, then `compress`.

    Args:
      name: its name.
      capture: the first step; only it may be random.
      compress: the second step; its options are the chain's.
      levels: (parameter of `capture`, parameter of `compress`), mild to severe.

    Raises:
      SimulatorError: a level is not at least as severe as the one before in both steps, and
        severer in one. A larger parameter is the severer one.
    """
    for mild, severe in itertools.pairwise(levels):
        if mild == severe or any(a > b for a, b in zip(mild, severe, strict=True)):
            raise SimulatorError(f"{name}: level {severe} does not only add to {mild}")

    def apply(
        frames: Iterator[np.ndarray], clip: Clip, parameter: Parameter, seed: int, **options: str
    ) -> Iterator[np.ndarray]:
        captured = capture.apply(frames, clip, parameter[0], seed)
        return compress.apply(captured, clip, parameter[1], seed, **options)

    return Simulator(
        name,
        "mixed",
        (capture.parameter_name, compress.parameter_name),
        tuple(levels),
        apply,
        effective=lambda parameter, fps: (
            capture.effective(parameter[0], fps),
            compress.effective(parameter[1], fps),
        ),
        options=compress.options,
        random=capture.random,
    )


_STEPS = {simulator.name: simulator for simulator in (*spatial.SIMULATORS, *streaming.SIMULATORS)}

SIMULATORS = tuple(
    chain(
        f"{short}_{codec}", _STEPS[capture], _STEPS[codec], tuple(zip(values, _CRFS, strict=True))
    )
    for codec in _CODECS
    for short, (capture, values) in _CAPTURES.items()
)
