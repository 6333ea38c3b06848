"""Memory of `score` over thousands of files: the process and its children, quarter by quarter."""

from __future__ import annotations

import csv
import itertools
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import av
import numpy as np

from launch.bench.service import children_of, megabytes

_SAMPLE_SECONDS = 0.5
_QUARTERS = 4
_SIZES = ((96, 72), (160, 90), (72, 128), (112, 112), (192, 80), (128, 96), (176, 144))
_FRAMES = (1, 6, 14, 30)  # at 12 a second
_CODECS = (("libx264", "mp4"), ("mpeg4", "avi"), ("libx264", "mkv"))
_BROKEN_EVERY = 20  # of the kinds of files


def make_files(folder: str, num: int) -> None:
    """So many short videos: kinds of several sizes, lengths, codecs and containers, one in twenty
    cut in half; each kind under as many names as are needed."""
    kinds = []
    every = itertools.product(_SIZES, _FRAMES, _CODECS)
    for number, (size, frames, (codec, container)) in enumerate(every):
        path = os.path.join(folder, f"kind_{number:03d}.{container}")
        _write(path, size, frames, codec, number)
        if number % _BROKEN_EVERY == _BROKEN_EVERY - 1:
            os.truncate(path, os.path.getsize(path) // 2)
        kinds.append(path)
    for number in range(num):
        kind = kinds[number % len(kinds)]
        os.link(kind, os.path.join(folder, f"{number:06d}{os.path.splitext(kind)[1]}"))
    for kind in kinds:
        os.remove(kind)


def _write(path: str, size: tuple[int, int], frames: int, codec: str, seed: int) -> None:
    """A drifting pattern."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height + 32, width + 32, 3), np.uint8)
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(frames):
            picture = np.ascontiguousarray(noise[k % 32 :, k % 32 :][:height, :width])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))


def measure(student: str | None, num: int) -> dict[str, Any]:
    """Scores `num` made files in a process of its own, and watches it.

    Args:
      student: folder or name; None: the shipped one.
      num: files.

    Returns:
      {"machine", "files", "scored", "seconds", "cpu_seconds", "parent_mb" and "children_mb":
      medians of every quarter of the time, "most_mb": of both together}. Shared pages count for
      every process that has them.
    """
    with tempfile.TemporaryDirectory() as folder:
        videos, table = os.path.join(folder, "videos"), os.path.join(folder, "scores.csv")
        os.mkdir(videos)
        make_files(videos, num)
        command = [sys.executable, "-m", "vqa_jax", "score", videos, "--csv", table, "--quiet"]
        command += ["--student", student] if student else []
        begun, before = time.monotonic(), sum(os.times()[2:4])
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            samples = _watched(process)
        seconds, cpu = time.monotonic() - begun, sum(os.times()[2:4]) - before
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit status {process.returncode}")
        with open(table, encoding="utf-8", newline="") as text:
            scored = sum(bool(row["score"]) for row in csv.DictReader(text))
    parts = np.array_split(np.array(samples), _QUARTERS)
    medians = np.array([np.median(part, axis=0) for part in parts])
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "files": num,
        "scored": scored,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "parent_mb": medians[:, 0].tolist(),
        "children_mb": medians[:, 1].tolist(),
        "most_mb": float(np.sum(samples, axis=1).max()),
    }


def _watched(process: subprocess.Popen[bytes]) -> list[tuple[float, float]]:
    """MB of a process, and of its children, while it runs."""
    samples = []
    while process.poll() is None:
        samples.append((megabytes(process.pid), sum(map(megabytes, children_of(process.pid)))))
        time.sleep(_SAMPLE_SECONDS)
    return samples


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""

    def told(values: Sequence[float]) -> str:
        return ", ".join(f"{value:.0f}" for value in values)

    return "\n".join(
        [
            f"{found['files']} files, {found['scored']} scored, in {found['seconds']:.0f} s, "
            f"{found['cpu_seconds']:.0f} CPU s, {found['machine']}",
            f"MB of the process, a quarter of the time each: {told(found['parent_mb'])}",
            f"MB of its children: {told(found['children_mb'])}; together at most "
            f"{found['most_mb']:.0f}",
        ]
    )
