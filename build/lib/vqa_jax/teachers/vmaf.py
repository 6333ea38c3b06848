"""VMAF (Netflix; BSD-2-Clause-Patent) of a version of a clip, by an FFmpeg that has libvmaf.

A full-reference measure, fitted on people's scores of compression and scaling: it orders versions
of one source across simulators, which levels cannot. It says nothing about light, colour or noise
by intent, nor about different sources. Identical frames get 97 to 100.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable
from typing import IO

import numpy as np

from vqa_jax.errors import VqaError
from vqa_jax.extras import asked_for

_LOG, _ERRORS = "vmaf.json", "errors.txt"
_TIME_SECONDS = 600.0
_LEAST_SIDE = 16  # pixels, below which libvmaf's scales vanish


class VmafError(VqaError):
    """VMAF cannot be had; the message says why and what to do."""


def ffmpeg() -> str:
    """Path of the program.

    Raises:
      MissingExtraError: imageio-ffmpeg is not installed.
      VmafError: it brings no program for this machine.
    """
    with asked_for():
        import imageio_ffmpeg
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise VmafError(f"imageio-ffmpeg has no FFmpeg for this machine ({error})") from error


def vmaf(reference: np.ndarray, distorted: np.ndarray, fps: float, program: str = "") -> float:
    """Mean VMAF over the frames of a version, 0..100; higher is better.

    Args:
      reference: uint8 RGB [T, H, W, 3].
      distorted: uint8 RGB [T, h, w, 3]; another size is scaled to the reference's, bicubic.
      fps: frames a second.
      program: path of an FFmpeg with libvmaf; "" for imageio-ffmpeg's.

    Raises:
      VmafError: arrays that are no two clips of one length, or FFmpeg fails or has no libvmaf.
      MissingExtraError: as `ffmpeg`.
    """
    for frames in (reference, distorted):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
            raise VmafError(f"frames are {frames.dtype} {frames.shape}: give uint8 [T, H, W, 3]")
    if len(reference) != len(distorted):
        raise VmafError(f"{len(distorted)} frames against {len(reference)}: VMAF compares as many")
    with Comparison(reference, reference[0].shape, distorted[0].shape, fps, program) as comparison:
        for frame in distorted:
            comparison.add(frame)
        return comparison.score()


class Comparison:
    """VMAF of a version whose frames come one after the other, against a source read beside it.

    A context: what is left of the program ends with it. Few frames are in memory at a time.
    """

    def __init__(
        self,
        reference: Iterable[np.ndarray],
        shape: tuple[int, ...],
        distorted_shape: tuple[int, ...],
        fps: float,
        program: str = "",
    ):
        """Starts the program.

        Args:
          reference: uint8 RGB [H, W, 3], each of `shape`; read in a thread.
          shape: of a frame.
          distorted_shape: of a frame of the version.
          fps, program: as of `vmaf`.

        Raises:
          VmafError, MissingExtraError: as `vmaf`.
        """
        if min(shape[:2]) < _LEAST_SIDE:
            raise VmafError(
                f"{shape[1]}x{shape[0]} pixels are too few: {_LEAST_SIDE} a side at least"
            )
        self._program = program or ffmpeg()
        self._counts = [0, 0]
        self._failure: Exception | None = None
        self._folder = tempfile.TemporaryDirectory()
        try:
            self._process, pipes = self._start(shape, distorted_shape, fps)
        except OSError as error:
            self._folder.cleanup()
            raise VmafError(f"{self._program}: {error.strerror or error}") from error
        self._pipe, other = pipes
        # FFmpeg reads the two in turn: each has a writer of its own.
        self._thread = threading.Thread(target=self._feed, args=(other, reference), daemon=True)
        self._thread.start()

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()
        _close(self._pipe)
        self._thread.join()
        self._folder.cleanup()

    def add(self, frame: np.ndarray) -> None:
        """Takes the version's next frame, uint8 RGB of its shape."""
        self._counts[0] += 1
        _write(self._pipe, frame)

    def score(self) -> float:
        """Mean VMAF, once all frames were added; VmafError as of `vmaf`."""
        _close(self._pipe)
        try:
            self._process.wait(timeout=_TIME_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise VmafError(f"{self._program} took longer than {_TIME_SECONDS:g} s") from error
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        if self._process.returncode:
            reason = " ".join(self._told(_ERRORS).split())[-300:]
            raise VmafError(f"{self._program} failed (has it libvmaf?): {reason}")
        try:
            found = float(json.loads(self._told(_LOG))["pooled_metrics"]["vmaf"]["mean"])
        except (OSError, KeyError, ValueError) as error:
            raise VmafError(f"FFmpeg's libvmaf told no score ({error!r})") from error
        version, source = self._counts
        if version != source:
            raise VmafError(f"{version} frames against {source}: VMAF compares as many")
        return found

    def _start(
        self, shape: tuple[int, ...], distorted_shape: tuple[int, ...], fps: float
    ) -> tuple[subprocess.Popen[bytes], list[IO[bytes]]]:
        """The program, and the pipes into which the version and the source go."""
        height, width = shape[:2]
        pipes = [os.pipe() for _ in range(2)]
        command = [self._program, "-hide_banner", "-loglevel", "error", "-nostdin"]
        for (h, w, _), (source, _) in zip((distorted_shape, shape), pipes, strict=True):
            command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}"]
            command += ["-r", f"{fps:.6f}", "-i", f"pipe:{source}"]
        filters = (
            f"[0:v]scale={width}:{height}:flags=bicubic,format=yuv420p[d];[1:v]format=yuv420p[r];"
            f"[d][r]libvmaf=n_threads=1:log_fmt=json:log_path={_LOG}"
        )
        command += ["-lavfi", filters, "-f", "null", "-"]
        sources = [source for source, _ in pipes]
        writers = [os.fdopen(sink, "wb") for _, sink in pipes]
        try:
            with open(os.path.join(self._folder.name, _ERRORS), "wb") as errors:
                child = subprocess.Popen(
                    command,
                    cwd=self._folder.name,  # where the log goes: one word needs no quoting
                    pass_fds=sources,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
        except OSError:
            for writer in writers:
                writer.close()
            raise
        finally:
            for source in sources:
                os.close(source)
        return child, writers

    def _told(self, name: str) -> str:
        path = os.path.join(self._folder.name, name)
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _feed(self, pipe: IO[bytes], frames: Iterable[np.ndarray]) -> None:
        try:
            for frame in frames:
                self._counts[1] += 1
                if not _write(pipe, frame):
                    break
        except Exception as error:  # any: it is raised where the score is asked for
            self._failure = error
        _close(pipe)


def _write(pipe: IO[bytes], frame: np.ndarray) -> bool:
    """Whether the program still reads; where it has ended, its exit status says why."""
    try:
        pipe.write(np.ascontiguousarray(frame).data)
        return True
    except (OSError, ValueError):  # ValueError: the pipe is closed already
        return False


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # what is left to write goes nowhere
        pipe.close()
