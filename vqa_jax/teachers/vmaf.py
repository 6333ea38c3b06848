"""VMAF (Netflix; BSD-2-Clause-Patent) of a version of a clip, by an FFmpeg that has libvmaf.

A full-reference measure, fitted on people's scores of compression and scaling: it orders versions
of one source across simulators, which levels cannot. It says nothing about light, colour or noise
by intent, nor about different sources. Identical frames get 97 to 100.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from typing import IO

import numpy as np

from vqa_jax.errors import VqaError
from vqa_jax.extras import asked_for

_LOG = "vmaf.json"
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
    height, width = reference.shape[1:3]
    if min(height, width) < _LEAST_SIDE:
        raise VmafError(f"{width}x{height} pixels are too few: {_LEAST_SIDE} a side at least")
    with tempfile.TemporaryDirectory() as folder:
        filters = (
            f"[0:v]scale={width}:{height}:flags=bicubic,format=yuv420p[d];[1:v]format=yuv420p[r];"
            f"[d][r]libvmaf=n_threads=1:log_fmt=json:log_path={_LOG}"
        )
        _run(program or ffmpeg(), [distorted, reference], fps, filters, folder)
        try:
            with open(os.path.join(folder, _LOG), encoding="utf-8") as file:
                return float(json.load(file)["pooled_metrics"]["vmaf"]["mean"])
        except (OSError, KeyError, ValueError) as error:
            raise VmafError(f"FFmpeg's libvmaf told no score ({error!r})") from error


def _run(program: str, clips: list[np.ndarray], fps: float, filters: str, folder: str) -> None:
    """Feeds clips to FFmpeg by pipes, both at once, since it reads them in turn."""
    pipes = [os.pipe() for _ in clips]
    command = [program, "-hide_banner", "-loglevel", "error", "-nostdin"]
    for clip, (source, _) in zip(clips, pipes, strict=True):
        size = f"{clip.shape[2]}x{clip.shape[1]}"
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:.6f}"]
        command += ["-i", f"pipe:{source}"]
    command += ["-lavfi", filters, "-f", "null", "-"]
    sources = [source for source, _ in pipes]
    writers = [os.fdopen(sink, "wb") for _, sink in pipes]
    try:
        child = subprocess.Popen(
            command,
            cwd=folder,  # where the log goes: a path of one word needs no quoting
            pass_fds=sources,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        for writer in writers:
            writer.close()
        raise VmafError(f"{program}: {error.strerror or error}") from error
    finally:
        for source in sources:
            os.close(source)
    jobs = zip(writers, clips, strict=True)
    threads = [threading.Thread(target=_feed, args=job, daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        said = child.communicate(timeout=_TIME_SECONDS)[1]
    except subprocess.TimeoutExpired as error:
        raise VmafError(f"{program} took longer than {_TIME_SECONDS:g} s") from error
    finally:
        child.kill()
        for thread in threads:
            thread.join()
    if child.returncode:
        reason = " ".join(said.decode("utf-8", "replace").split())[-300:]
        raise VmafError(f"{program} failed (has it libvmaf?): {reason}")


def _feed(pipe: IO[bytes], clip: np.ndarray) -> None:
    try:
        with pipe:
            for frame in clip:
                pipe.write(np.ascontiguousarray(frame).data)
    except OSError:  # the program ended; its exit status says why
        pass
