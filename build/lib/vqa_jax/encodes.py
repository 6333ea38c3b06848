"""Encodes of one source for a ladder: made at a codec's quality settings, or taken as they are."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import logging
from tqdm import tqdm

from vqa_jax.extras import MissingExtraError, asked_for
from vqa_jax.jobs import contents, files
from vqa_jax.media import isolation
from vqa_jax.media.container import MediaError
from vqa_jax.media.decode import isolated_frames
from vqa_jax.media.probe import VideoInfo, picture_bytes, probe
from vqa_jax.scoring.ladder import Encode, Measured
from vqa_jax.settings import DecodeLimits, SettingsError
from vqa_jax.teachers import fidelity, vmaf

if TYPE_CHECKING:
    from data_prep.simulators.encode import EncodeConfig

# Name of an encoder -> codec and the preset, a speed for everyday work.
ENCODERS = {
    "x264": ("h264", "medium"),
    "x265": ("h265", "medium"),
    "svtav1": ("av1", "8"),
    "vp9": ("vp9", "4"),
}
_MOST_STEPS = 64  # of a range


def crfs(text: str) -> list[float]:
    """Quality settings: "18:50:4" is 18, 22 ... 50; "18,24,40" is what it says.

    Raises:
      SettingsError: neither of them.
    """
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            if not (step > 0 and first <= last and (last - first) / step <= _MOST_STEPS):
                raise ValueError
            found = [float(v) for v in np.arange(first, last + step / 1e6, step)]
        else:
            found = [float(part) for part in text.split(",")]
        if not np.isfinite(found).all() or min(found) < 0:
            raise ValueError
    except ValueError as error:
        reason = "write FIRST:LAST:STEP or numbers with commas between, from 0 up"
        raise SettingsError(f"--crf {text}: {reason}") from error
    return sorted(dict.fromkeys(found))


def planned(codecs: str, crf: str) -> list[tuple[str, float, EncodeConfig]]:
    """(encoder, CRF, how to encode) of every encode that is to be made.

    Args:
      codecs: names of `ENCODERS` with commas between, each with a preset where the everyday one is
        not wanted: "x264:slow,svtav1".
      crf: see `crfs`.

    Raises:
      MissingExtraError: OpenCV is missing, which the module of encoders asks for.
      SettingsError: unknown names, or CRFs beyond the encoder's.
    """
    with asked_for("prep"):
        from data_prep.simulators import encode
    found = []
    for name in dict.fromkeys(codecs.split(",")):
        encoder, _, preset = name.partition(":")
        if encoder not in ENCODERS:
            raise SettingsError(f"--codec {name}: one of {', '.join(ENCODERS)}")
        codec, usual = ENCODERS[encoder]
        for value in crfs(crf):
            if value > encode.MAX_CRF[codec]:
                reason = f"{encoder} ends at {encode.MAX_CRF[codec]}"
                raise SettingsError(f"--crf {crf}: {reason}")
            config = encode.EncodeConfig(codec, value, preset or usual, mbtree=True)
            found.append((name, value, config))
    return found


def make(
    source: VideoInfo,
    part: tuple[int, int],
    plan: Sequence[tuple[str, float, EncodeConfig]],
    folder: str,
    limits: DecodeLimits,
) -> list[Encode]:
    """Encodes a part of a source; what an earlier run has made in the folder is used again.

    Args:
      source: of `probe.probe`.
      part: its first frame and the one after its last.
      plan: of `planned`.
      folder: for the encodes, mp4.
      limits: of the source.

    Raises:
      EncodeError: an encoder refuses the frames.
      MediaError: the source cannot be read.
    """
    from data_prep.simulators.encode import encode_rgb, encoder

    os.makedirs(folder, exist_ok=True)
    stamp = contents.stamps([source.path])
    encodes = []
    for name, crf, config in tqdm(plan, desc="encode", unit="encode"):
        told = repr((stamp, part, config, encoder(config.codec)))
        key = hashlib.sha256(told.encode()).hexdigest()[:8]
        path = os.path.join(folder, f"{name.replace(':', '-')}-{crf:g}-{key}.mp4")
        if not os.path.exists(path):
            frames = (f for _, f in isolated_frames(source, range(*part), limits))
            with contextlib.closing(frames), files.replacing(path) as temporary:
                data = encode_rgb(frames, source.fps, config)
                with open(temporary, "wb") as file:
                    file.write(data)
        encodes.append(given(path, f"{name} {crf:g}", limits, name, crf))
    return encodes


def given(
    path: str, name: str, limits: DecodeLimits, codec: str = "", crf: float | None = None
) -> Encode:
    """An encode as it is; one that cannot be read says why.

    Args:
      path: of the local file.
      name: how it is called.
      limits: of the file.
      codec: "": FFmpeg's name of what the file holds.
      crf: if known.
    """
    try:
        info = isolation.call(limits, path, probe, path, limits.pixels)
        size = isolation.call(limits, path, picture_bytes, path)
    except MediaError as error:
        return Encode(name, path, codec, crf, error=f"{error.reason} [{error.stage}]")
    return Encode(name, path, codec or info.codec, crf, size * 8 / info.duration / 1000)


def measured(
    source: VideoInfo, first: int, encodes: Sequence[Encode], limits: DecodeLimits
) -> dict[str, Measured]:
    """What measures with a reference say of encodes, by name; VMAF where its program is at hand.

    Encodes that cannot be measured are left out, with a warning.

    Args:
      source: of `probe.probe`.
      first: frame of it with which they start.
      encodes: those with an error are passed over.
      limits: of each file.
    """
    program: str | None = None
    try:
        program = vmaf.ffmpeg()
    except (MissingExtraError, vmaf.VmafError) as error:
        logging.info("without VMAF: %s", error)
    found: dict[str, Measured] = {}
    for encode in tqdm([e for e in encodes if e.error is None], desc="measure", unit="encode"):
        try:
            info = isolation.call(limits, encode.path, probe, encode.path, limits.pixels)
            try:
                told = fidelity.measure(source, info, first, limits, program)
            except vmaf.VmafError as error:  # the program's fault, not the encode's
                logging.warning("without VMAF: %s", error)
                program = None
                told = fidelity.measure(source, info, first, limits)
        except MediaError as error:
            logging.warning("not measured against its source: %s", error)
            continue
        found[encode.name] = {name: dataclasses.asdict(value) for name, value in told.items()}
    return found
