"""The commands `convert` and `export`: weights of others in, students for serving out."""

from __future__ import annotations

import argparse
from typing import Any

from vqa_jax.cli import command


def add(commands: Any) -> None:
    """Adds the commands to argparse's sub-commands."""
    sub = command.add(
        commands,
        "convert",
        _convert,
        "Turn published weights into a student's folder.",
        kept="what was in {to} is as it was; the same command starts again",
    )
    command.add_output(sub, "--to", "folder", "folder to write", required=True)
    text = "safetensors folder or file; may be repeated for parts, as SigLIP2 and Qwen3"
    many = {"dest": "sources", "action": "append", "metavar": "PATH"}
    command.add_input(sub, "--from", text, required=True, **many)
    sub.add_argument("--preset", default="", help="sizes by name (default: from config.json)")
    sub.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    sub.add_argument(
        "--scratch",
        action="append",
        default=[],
        metavar="PART",
        help="part that the files lack and that starts from random numbers; may be repeated",
    )
    sub.add_argument("--seed", type=int, default=0, help="of those parts")
    text = "SlowFast safetensors to put beside it"
    command.add_input(sub, "--extractor", text, default="")

    sub = command.add(
        commands,
        "export",
        _export,
        "Write a student for serving, with a manifest and a self-test.",
        kept="what was in {out} is as it was; the same command starts again",
    )
    command.add_input(sub, "--student", "student's folder", required=True)
    command.add_output(sub, "--out", "folder", "folder to write", required=True)
    sub.add_argument("--format", required=True, choices=("orbax", "safetensors", "stablehlo"))
    sub.add_argument(
        "--names",
        choices=("hf", "original", "decoder"),
        default="hf",
        help="of format safetensors: LLaVA-OneVision's as Hugging Face or its authors write them, "
        "or a decoder's own with the rest beside",
    )


def _convert(args: argparse.Namespace) -> command.Result:
    from vqa_jax.exchange import convert

    with command.told_as_settings():
        found = convert.convert(
            args.sources,
            args.to,
            preset=args.preset,
            dtype=args.dtype,
            scratch=args.scratch,
            seed=args.seed,
            extractor=args.extractor,
        )
    return found, 0


def _export(args: argparse.Namespace) -> command.Result:
    from vqa_jax.exchange import export

    return export.export(args.student, args.out, args.format, args.names), 0
