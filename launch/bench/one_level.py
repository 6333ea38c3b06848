"""What `memory` runs in the child: one level of each simulator, and one simulator alone.

Apart from it, for the child imports what its function's module does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from unittest import mock

from data_prep.inputs import source as inputs
from data_prep.prepare import segments
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.versions import Part
from data_prep.simulators import SIMULATORS, Clip, Simulator, simulate
from vqa_jax.media import decode, probe

_MB = 1 << 20


def prepare_source(path: str, source: inputs.Source, config: PrepConfig) -> Iterator[Part]:
    """As `segments.prepare_source`, with one level of every simulator."""
    few = {name: _one_level(name) for name in config.simulators}
    with mock.patch.dict(SIMULATORS, few):
        yield from segments.prepare_source(path, source, config)


def _one_level(name: str) -> Simulator:
    simulator = SIMULATORS[name]
    middle = len(simulator.parameters) // 2
    return dataclasses.replace(simulator, parameters=simulator.parameters[middle : middle + 1])


def held_by(path: str, info: probe.VideoInfo, length: int, name: str, h265_preset: str) -> int:
    """MB that a simulator takes beyond what reading its frames does; in a process of its own."""
    frames = (frame for _, frame in decode.iter_frames(path, range(length), info))
    with open("/proc/self/clear_refs", "w", encoding="ascii") as f:
        f.write("5")  # the peak starts anew
    for frame in frames:
        shape = frame.shape
    before = _peak()
    clip = Clip(length, *shape[:2], info.fps)
    frames = (frame for _, frame in decode.iter_frames(path, range(length), info))
    for _ in simulate(frames, clip, name, 2, 0, h265_preset)[0]:
        pass
    return round((_peak() - before) / _MB)


def _peak() -> int:
    with open("/proc/self/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
