"""Compiled programs are kept between runs, in the user's cache folder."""

from __future__ import annotations

import os
import pathlib
import sys

import jax
import jaxlib
from absl import logging

from vqa_jax.devices.processor import processor

SWITCH = "VQA_JAX_CACHE"  # "off": nothing is kept
# What compiles faster is compiled again: a file would cost as much.
_SHORTEST_SECONDS = 0.1


def keep() -> None:
    """Turns JAX's persistent compilation cache on, unless it is on or $VQA_JAX_CACHE is "off".

    A folder given by JAX_COMPILATION_CACHE_DIR stays. A folder that cannot be made is a warning.
    """
    if os.environ.get(SWITCH, "").lower() == "off" or jax.config.jax_compilation_cache_dir:
        return
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK):
            raise PermissionError(f"{place} cannot be written")
    except OSError as error:
        logging.warning("compiled programs are not kept (%s): set %s=off", error, SWITCH)
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", _SHORTEST_SECONDS)


def folder() -> pathlib.Path:
    """Where programs of this jaxlib and processor lie: XDG_CACHE_HOME, or as the system has it."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    usual = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    root = pathlib.Path(given) if os.path.isabs(given) else pathlib.Path(usual).expanduser()
    return root / "vqa_jax" / f"programs-{jaxlib.__version__}-{processor()}"
