"""The commands `anchors`, `calibrate`, `choose_anchors` and `anchor_sensitivity`."""

from __future__ import annotations

import argparse
from typing import Any

from vqa_jax import terminal
from vqa_jax.cli import command


def add(commands: Any) -> None:
    """Adds the commands to argparse's sub-commands."""
    sub = command.add(commands, "anchors", _anchors, "Choose a student's anchors.")
    text = "student's folder; its anchors are written there"
    command.add_output(sub, "--student", "folder", text, required=True)
    source = sub.add_mutually_exclusive_group(required=True)
    text = "corpus folder: simulated versions become anchors"
    command.add_input(sub, "--data", text, source)
    source.add_argument("--table", help="videos or pictures with scores (path, mos) become anchors")
    command.add_devices(sub)

    sub = command.add(
        commands, "calibrate", _calibrate, "Tell scores how far people are from them."
    )
    text = "student's folder; its anchors are told"
    command.add_output(sub, "--student", "folder", text, required=True)
    text = "`score --csv` of files unknown to it, or to one made alike"
    command.add_input(sub, "--scores", text, required=True)
    command.add_input(sub, "--labels", "human scores of the same files", required=True)

    sub = command.add(
        commands, "choose_anchors", _choose, "Choose anchors from a pool of scored videos."
    )
    sub.add_argument("--pool", required=True, help="table: video, mos or score, and std if known")
    sub.add_argument("--videos", default=".", help="folder that its names are relative to")
    command.add_output(sub, "--out", "file", "anchors.csv to write", required=True)
    sub.add_argument("--num", type=int, default=5, help="anchors wanted (default: 5)")

    sub = command.add(
        commands,
        "anchor_sensitivity",
        _sensitivity,
        "Leave each anchor out and tell what that does to videos' scores.",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="videos to score")
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--anchors", metavar="FILE", help="table of other anchors: path, mos or score")
    command.add_output(sub, "--out", "folder", "folder for the report", required=True)
    command.add_devices(sub)


def _anchors(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax.loop import anchors

    student = loading.load(args.student, **command.devices_of(args))
    if args.table:
        return anchors.adopt_anchors(student, args.student, args.table), 0
    return anchors.make_anchors(student, args.student, args.data), 0


def _calibrate(args: argparse.Namespace) -> command.Result:
    from vqa_jax.loop import anchors

    number = anchors.calibrate(args.student, args.scores, args.labels)
    return f"std of {args.student} measured on {number} files", 0


def _choose(args: argparse.Namespace) -> command.Result:
    from vqa_jax.scoring import anchor_sources

    found = anchor_sources.write_anchors(args.pool, args.videos, args.out, args.num)
    lines = [f"{score:10.3f}  {std:8.3f}  {terminal.name(path)}" for path, score, std in found]
    few = f" ({len(found)} of {args.num}: the pool has gaps)" if len(found) < args.num else ""
    return "\n".join([f"{'score':>10}  {'std':>8}  path", *lines, f"anchors: {args.out}{few}"]), 0


def _sensitivity(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax.media.find import find_videos
    from vqa_jax.report import anchors as page

    student = loading.load(args.student, anchors=args.anchors, **command.devices_of(args))
    probabilities, failed = student.anchor_probabilities(find_videos(args.paths, stills=True))
    rows = [f"no score: {terminal.name(error)}" for error in failed]
    try:
        found = page.examine(student.judge, probabilities)
    except ValueError as error:
        return "\n".join([str(error), *rows]), 2
    command.say(args, "\n".join([page.render(found, args.out), *rows]))
    page.write(student.judge, found, len(probabilities), args.out)  # last, as it may fail
    return 0
