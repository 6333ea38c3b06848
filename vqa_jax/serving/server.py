"""Runs the service until it is told to stop; requests at work are then finished."""

from __future__ import annotations

import itertools
import math
import signal

import numpy as np
import uvicorn
from absl import logging

from vqa_jax.media import isolation
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.serving.app import make_app
from vqa_jax.serving.config import ServeConfig

_SIZES = (384, 512), (384, 672), (384, 384), (512, 384), (672, 384)  # lines, columns, of any file
_RATE = 2  # frames a second, of which one is a key frame; a single frame would be a picture
_KEEP_SECONDS = 10  # of a connection without a request


def warm(student: Predictor) -> None:
    """Compiles what requests need, lest the first ones wait for it.

    Programs differ by the shape of the frames where their aspect is kept, and by their number where
    all key frames are seen.
    """
    view, most = student.spec.preprocess.view, student.spec.num_frames
    sizes = _SIZES if view == "fit" else _SIZES[:1]
    lengths = [most >> halved for halved in range(most.bit_length())] if view == "squash" else [1]
    shape = _RATE * max(lengths), *np.max(sizes, axis=0), 3
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for length, (height, width) in itertools.product(lengths, sizes):
        student.score(noise[: _RATE * length, :height, :width], fps=float(_RATE))


def run(student: Predictor, config: ServeConfig, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
      student: loaded.
      config: bounds of the service.
      host, port: where it listens.

    Raises:
      AnchorError: the student has no anchors.
      SettingsError: an allowed URL that is none.
      KeyboardInterrupt: on SIGINT, once all is finished.
    """
    app = make_app(student, config)
    isolation.start(config.limits)
    warm(student)
    settings = uvicorn.Config(
        app,
        host,
        port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_SECONDS,
        timeout_graceful_shutdown=math.ceil(config.work_seconds),
    )
    # uvicorn raises the signal again when it has stopped: that is then no failure.
    signal.signal(signal.SIGTERM, lambda *_: None)
    logging.info("serving on http://%s:%d, at most %d requests", host, port, config.requests)
    uvicorn.Server(settings).run()
