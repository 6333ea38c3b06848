"""Memory of preparing one video: a worker and its child together, sampled while they work."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import psutil

from data_prep.inputs import listing
from data_prep.inputs import source as inputs
from data_prep.prepare import buckets, segments
from data_prep.prepare.config import PrepConfig
from data_prep.simulators import SIMULATORS
from launch.bench import one_level
from vqa_jax.cli import config as config_option
from vqa_jax.media import isolation, probe
from vqa_jax.settings import DecodeLimits

_SAMPLE_SECONDS = 0.05
_SHARES_EVERY = 20  # samples
_MB = 1 << 20


def measure(
    video: str, seconds: float, simulators: Sequence[str], config_file: str, h265_preset: str
) -> dict[str, Any]:
    """Prepares one video as a worker does, and returns what it took.

    Args:
      video: a file.
      seconds: length of the segment.
      simulators: names or kinds; of each one level, in the middle.
      config_file: name or file of a configuration, whose other `prep` settings are used.
      h265_preset: of H.265.

    Returns:
      {"video", "frames", "worker_mb": {"rss", "pss", "at_start"}, "child_mb", "cpu_seconds",
      "encoders_mb": simulator -> what its encoder and decoder hold}, all peaks.
    """
    fields = config_option.read(config_file).prep.to_dict()
    changes = {"simulators": tuple(simulators), "segment_seconds": seconds, "window": (0, 0)}
    changes |= {"simulators_per_segment": 0, "segments_per_source": 1, "pools": ()}
    changes |= {"h265_preset": h265_preset, "limit_seconds": 0.0}
    config = PrepConfig.from_dict(fields | changes)
    info = probe.probe(video)
    stamp = dataclasses.astuple(listing.file_stamp(listing.Input(video, video)))
    source = inputs.Source("0" * 8, video, "train", info, stamp, location=video)
    few = mock.patch.object(buckets, "prepare_source", one_level.prepare_source)
    with tempfile.TemporaryDirectory() as work, few, sampled() as peaks:
        summary = buckets.build_bucket(("train-00000", [source]), work, config)
    if summary["rejected"]:
        raise RuntimeError(str(summary["rejected"]))
    length = segments.segment_length(info.fps, info.num_frames, config)
    limits = DecodeLimits(seconds=0)
    coded = [n for n in config.simulators if "encoder" in SIMULATORS[n].options]
    held = {
        name: isolation.call(
            limits, video, one_level.held_by, video, info, length, name, h265_preset
        )
        for name in coded
    }
    found = {
        "video": f"{info.width}x{info.height}",
        "frames": length,
        "versions": summary["videos"],
    }
    return found | peaks | {"encoders_mb": held}


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""
    lines = [f"{k}: {v}" for k, v in found.items() if k != "encoders_mb"]
    return "\n".join([*lines, *(f"{k} holds {v} MB" for k, v in found["encoders_mb"].items())])


@contextlib.contextmanager
def sampled() -> Iterator[dict[str, Any]]:
    """Peaks of this process and its children while the context lasts, in MB; CPU seconds."""
    found: dict[str, Any] = {}
    ended = threading.Event()
    cpu: dict[int, float] = {}
    samples = [_sample(cpu)]
    shares = [_shared_by_share()]

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            samples.append(_sample(cpu))
            if len(samples) % _SHARES_EVERY == 0:
                shares.append(_shared_by_share())

    began = dict(cpu)
    wall = time.monotonic()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        rss, child = (round(float(v)) for v in np.max(samples, axis=0))
        at_start, pss = round(samples[0][0]), round(max(shares))
        found["worker_mb"] = {"rss": rss, "pss": pss, "at_start": at_start}
        found["child_mb"] = child
        found["cpu_seconds"] = round(sum(v - began.get(k, 0.0) for k, v in cpu.items()), 1)
        found["seconds"] = round(time.monotonic() - wall, 1)


def _processes() -> list[psutil.Process]:
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def _sample(cpu: dict[int, float]) -> tuple[float, float]:
    """MB of this process and its children, shared pages whole; of the children alone."""
    rss = child = 0.0
    for process in _processes():
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            held = process.memory_info().rss / _MB
            rss, child = rss + held, child + (held if process.pid != os.getpid() else 0)
            times = process.cpu_times()
            cpu[process.pid] = times.user + times.system
    return rss, child


def _shared_by_share() -> float:
    """MB of all of them, shared pages by share. The kernel walks every page for it: seldom."""
    pss = 0.0
    for process in _processes():
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            pss += process.memory_full_info().pss / _MB
    return pss
