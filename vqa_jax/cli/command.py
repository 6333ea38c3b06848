"""What all commands share: configs, errors of one line, exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from vqa_jax.errors import VqaError

_LEFT = "this process has done its part; the rest is left to other processes"


class SettingsError(VqaError):
    """Settings that do not fit each other."""


def _read_config(arguments: Sequence[str]) -> Any:
    """The ml_collections config named by --config, with --config.a.b=value overrides."""
    from ml_collections import config_flags

    argv = ["vqa_jax", *map(_with_folder, arguments)]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Run configuration.", flag_values=values, sys_argv=argv
    )
    values(argv)
    values.config.keys()  # a file that could not be loaded says so here, not somewhere later
    return values.config


def _with_folder(argument: str) -> str:
    """A configuration named without folder and ending, as "ov_7b:paper", is one of configs/."""
    option, equals, value = argument.rpartition("=")
    name, colon, detail = value.partition(":")
    if option not in ("", "--config") or not name.isidentifier():
        return argument
    return f"{option}{equals}configs/{name}.py{colon}{detail}"


def _say(text: str) -> None:
    # File names may be bytes that are no text.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _load(folder: str | None) -> Any:
    from vqa_jax import loading

    return loading.load(folder)


def _run(args: argparse.Namespace) -> int:
    text, status = args.run(args)
    _say(text)
    return status


def _shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--processes", type=int, default=1, help="how many share the work")
    command.add_argument("--process", type=int, default=0, help="number of this one, from 0")
