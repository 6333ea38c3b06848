"""The commands `score` and `timeline`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from vqa_jax.cli import command
from vqa_jax.settings import EPSILON, ScoreConfig


def add(commands: Any) -> None:
    """Adds the commands to argparse's sub-commands."""
    sub = command.add(
        commands,
        "score",
        _score,
        "Score files, folders or glob patterns.",
        kept="with --csv FILE, the rows so far are in FILE.partial; the same command starts again",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="videos, folders of them, patterns")
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
        "--epsilon", type=float, default=EPSILON, help=f"of --adaptive (default: {EPSILON})"
    )
    command.add_output(sub, "--csv", "text", "write one row a file; - for the terminal")
    command.add_output(sub, "--json", "text", "write the same as JSON; - for the terminal")

    sub = command.add(
        commands,
        "timeline",
        _timeline,
        "Score a video's passages, show the worst.",
    )
    sub.add_argument("video", metavar="VIDEO")
    command.add_output(sub, "--out", "folder", "folder for table and page", required=True)
    sub.add_argument("--student", help="student's folder (default: the shipped tiny one)")
    sub.add_argument("--window", type=float, default=2.0, help="seconds of a passage")
    sub.add_argument("--stride", type=float, default=1.0, help="seconds between passages' starts")


def _score(args: argparse.Namespace) -> command.Result:
    from tqdm import tqdm

    from vqa_jax import loading
    from vqa_jax.cli import score_table
    from vqa_jax.jobs.files import write_json
    from vqa_jax.media.find import find_videos
    from vqa_jax.scoring.predictor import Result

    if not args.epsilon > 0:
        return f"--epsilon {args.epsilon:g}: give a number above 0", 2
    paths = find_videos(args.paths)
    if not paths:
        return f"no video in {', '.join(args.paths)}", 2
    config = ScoreConfig(args.epsilon if args.adaptive else 0.0, args.both_orders, args.protocol)
    student = loading.load(args.student, anchors=args.anchors)
    results: list[Result] = []
    columns = [*(field.name for field in dataclasses.fields(Result)), "direction"]
    table = score_table.RowFile(args.csv, columns) if args.csv else None
    for result in tqdm(
        student.iter_scores(paths, config), total=len(paths), desc="score", unit="video"
    ):
        results.append(result)
        if table:
            table.add(score_table.row_of(result))
    text = score_table.render(results, len(student.judge.anchors.names))
    if args.student is None:
        text = f"No --student given: scored with the shipped tiny student.\n{text}"
    command.say(args, text)  # before the files, which may fail
    try:
        if table:
            table.finish()
    finally:
        if args.json:
            write_json(args.json, [score_table.row_of(result) for result in results])
    return 0 if any(result.error is None for result in results) else 1


def _timeline(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax.report import timeline as page
    from vqa_jax.scoring import timeline

    student = loading.load(args.student)
    with command.told_as_settings():
        found = timeline.score_passages(student, args.video, args.window, args.stride)
    command.say(args, page.render(found, args.out))  # before the files, which may fail
    timeline.write_table(found, args.out)
    page.write(found, args.out)
    return 0 if any(m.error is None for m in found.moments) else 1
