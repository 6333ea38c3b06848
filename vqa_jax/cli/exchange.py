"""Command line of exports: `python -m vqa_jax export`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from vqa_jax.cli.command import SettingsError, _say


def add(commands: Any, handler: Callable[[argparse.Namespace], int]) -> None:
    """Adds the command; `handler` gets arguments whose `run(args)` gives (text, exit status)."""
    text = "Write a student for serving, with a manifest and a self-test."
    parser = commands.add_parser("export", help=text, description=text)
    parser.add_argument("--student", required=True, help="student's folder")
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument("--format", required=True, choices=("orbax", "safetensors", "stablehlo"))
    parser.add_argument(
        "--names", choices=("hf", "original"), default="hf", help="of format safetensors"
    )
    parser.set_defaults(handler=handler, run=_export)


def _export(args: argparse.Namespace) -> tuple[str, int]:
    from vqa_jax.exchange import export

    return export.export(args.student, args.out, args.format, args.names), 0


def _convert(args: argparse.Namespace) -> int:
    from vqa_jax.exchange import convert

    try:
        found = convert.convert(
            args.sources,
            args.to,
            preset=args.preset,
            dtype=args.dtype,
            scratch=args.scratch,
            seed=args.seed,
            extractor=args.extractor,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    _say(found)
    return 0
