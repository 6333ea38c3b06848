"""The command `score`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

_EPSILON = 0.12  # score_modes.EPSILON, which --help must not import


def add(commands: Any, handler: Callable[[argparse.Namespace], int]) -> None:
    """Adds the command to argparse's sub-commands.

    Args:
      commands: of the main parser.
      handler: gets the arguments, whose `run(args)` gives (text to say, exit status).
    """
    text = "Score files, folders or glob patterns."
    sub = commands.add_parser("score", help=text, description=text)
    sub.set_defaults(handler=handler, run=_score)
    sub.add_argument("paths", nargs="+", metavar="PATH")
    sub.add_argument("--student", help="student's folder (default: the shipped tiny one)")
    sub.add_argument("--anchors", metavar="FILE", help="table of other anchors: path, mos or score")
    mode = sub.add_mutually_exclusive_group()
    mode.add_argument(
        "--adaptive", action="store_true", help="stop once a comparison moves q little"
    )
    mode.add_argument(
        "--both_orders",
        action="store_true",
        help="show every pair in both orders and tell how often the answers contradict",
    )
    mode.add_argument(
        "--protocol",
        choices=("map", "w2s"),
        default="map",
        help="w2s: the authors' rule, to compare with published numbers",
    )
    sub.add_argument(
        "--epsilon", type=float, default=_EPSILON, help=f"of --adaptive (default: {_EPSILON})"
    )
    sub.add_argument("--csv", help="write one row a file")
    sub.add_argument("--json", help="write the same as JSON")


def _score(args: argparse.Namespace) -> tuple[str, int]:
    from vqa_jax import predictor, score_table
    from vqa_jax.frames import find_videos
    from vqa_jax.score_modes import ScoreConfig

    if not args.epsilon > 0:
        return f"--epsilon {args.epsilon:g}: give a number above 0", 2
    paths = find_videos(args.paths)
    if not paths:
        return f"no video in {', '.join(args.paths)}", 2
    for path in filter(None, (args.csv, args.json)):  # now, not after hours of scoring
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    config = ScoreConfig(args.epsilon if args.adaptive else 0.0, args.both_orders, args.protocol)
    student = predictor.load(args.student, anchors=args.anchors)
    results = score_table.collect(student, paths, args.csv, config)
    text = score_table.render(results, len(student.scale.anchors.names))
    if args.student is None:
        text = f"No --student given: scored with the shipped tiny student.\n{text}"
    if args.json:
        score_table.write_results(results, args.json)
    return text, 0 if any(r.error is None for r in results) else 1
