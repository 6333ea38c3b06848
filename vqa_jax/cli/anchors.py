"""The commands `choose_anchors` and `anchor_sensitivity`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from vqa_jax.cli.command import _load, _say


def add(commands: Any, handler: Callable[[argparse.Namespace], int]) -> None:
    """Adds both commands to argparse's sub-commands.

    Args:
      commands: of the main parser.
      handler: gets the arguments, whose `run(args)` gives (text to say, exit status).
    """
    text = "Choose anchors from a pool of scored videos."
    sub = commands.add_parser("choose_anchors", help=text, description=text)
    sub.set_defaults(handler=handler, run=_choose)
    sub.add_argument("--pool", required=True, help="table: video, mos or score, and std if known")
    sub.add_argument("--videos", default=".", help="folder that its names are relative to")
    sub.add_argument("--out", required=True, help="anchors.csv to write")
    sub.add_argument("--num", type=int, default=5, help="anchors wanted")
    text = "Leave each anchor out and tell what that does to videos' scores."
    sub = commands.add_parser("anchor_sensitivity", help=text, description=text)
    sub.set_defaults(handler=handler, run=_sensitivity)
    sub.add_argument("paths", nargs="+", metavar="PATH", help="videos to score")
    sub.add_argument("--student", help="student's folder (default: the shipped tiny one)")
    sub.add_argument("--anchors", metavar="FILE", help="table of other anchors: path, mos or score")
    sub.add_argument("--out", required=True, help="folder for the report")


def _choose(args: argparse.Namespace) -> tuple[str, int]:
    from vqa_jax.scoring import anchor_sources

    found = anchor_sources.write_anchors(args.pool, args.videos, args.out, args.num)
    lines = [f"{score:10.3f}  {std:8.3f}  {path}" for path, score, std in found]
    return "\n".join([f"{'score':>10}  {'std':>8}  path", *lines, f"anchors: {args.out}"]), 0


def _sensitivity(args: argparse.Namespace) -> tuple[str, int]:
    from vqa_jax import loading
    from vqa_jax.media.find import find_videos
    from vqa_jax.scoring import sensitivity

    student = loading.load(args.student, anchors=args.anchors)
    probabilities, failed = student.anchor_probabilities(find_videos(args.paths))
    rows = [f"no score: {error}" for error in failed]
    try:
        found = sensitivity.examine(student.judge, probabilities, args.out)
    except ValueError as error:
        return "\n".join([str(error), *rows]), 2
    return "\n".join([sensitivity.render(found, args.out), *rows]), 0


def _anchors(args: argparse.Namespace) -> int:
    from vqa_jax.loop import anchors as anchor_choice

    _say(anchor_choice.make_anchors(_load(args.student), args.student, args.data))
    return 0
