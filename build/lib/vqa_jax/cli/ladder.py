"""The command `ladder`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any

from vqa_jax.cli import command, ladder_table

if TYPE_CHECKING:  # --help must not import JAX
    from vqa_jax.scoring.ladder import Encode, Ladder
    from vqa_jax.settings import DecodeLimits

PAGE_FILE, JSON_FILE, CSV_FILE = "ladder.html", "ladder.json", "ladder.csv"
ENCODES = "encodes"  # folder of those that were made


def add(commands: Any) -> None:
    """Adds the command to argparse's sub-commands."""
    sub = command.add(
        commands,
        "ladder",
        _ladder,
        "Quality over bitrate of a video's encodes, made or given, by comparing all of them.",
        kept="with --out the finished encodes are kept; the same command uses them again",
    )
    sub.add_argument("source", metavar="SOURCE", help="the video itself; URLs too")
    text = "encodes of it, of any codec and size"
    sub.add_argument("encodes", nargs="*", metavar="ENCODE", help=text)
    text = "encode by x264, x265, svtav1, vp9 (commas between); with a preset as x264:slow"
    sub.add_argument("--codec", default="", metavar="NAMES", help=text)
    text = "quality settings, FIRST:LAST:STEP or with commas between (default: 22:46:6)"
    sub.add_argument("--crf", default="22:46:6", help=text)
    sub.add_argument("--start", type=float, default=0.0, help="from this second of the source")
    text = "so many seconds of it (default: the rest); given encodes are of this part"
    sub.add_argument("--length", type=float, default=0.0, help=text)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    text = f"folder for {PAGE_FILE}, {CSV_FILE}, {JSON_FILE} and the encodes"
    command.add_output(sub, "--out", "folder", text)
    command.add_output(sub, "--csv", "text", "write a row an encode; - for the terminal")
    command.add_output(sub, "--json", "text", "write all numbers; - for the terminal")
    command.add_devices(sub)
    command.add_limits(sub)


def _ladder(args: argparse.Namespace) -> command.Result:
    from vqa_jax import encodes, loading
    from vqa_jax.media import passages, sources
    from vqa_jax.media.isolation import call
    from vqa_jax.media.probe import probe
    from vqa_jax.scoring import ladder

    if not (args.codec or args.encodes):
        return "give encodes of the source, or encoders by --codec", 2
    if twice := [name for name, count in Counter(args.encodes).items() if count > 1]:
        return f"{twice[0]} is given twice", 2
    plan = encodes.planned(args.codec, args.crf) if args.codec else []
    limits = command.limits_of(args)
    student = loading.load(args.student, **command.devices_of(args))
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(sources.local(args.source, limits.seconds))
        source = call(limits, path, probe, path, limits.pixels)
        with command.told_as_settings():
            part = passages.part_of(source, args.start, args.length)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vqa_ladder_"))
        folder = os.path.join(args.out or folder, ENCODES)
        found = encodes.make(source, part, plan, folder, limits) if plan else []
        found += _given(args.encodes, limits, stack)
        told = encodes.measured(source, part[0], found, limits)
        span = args.start, args.length
        climbed = ladder.climb(student, source, span, found, told, limits)
    climbed = dataclasses.replace(climbed, source=args.source)
    return _tell(args, climbed)


def _given(names: list[str], limits: DecodeLimits, stack: contextlib.ExitStack) -> list[Encode]:
    """The encodes that were named, called by their files' names, or whole paths if those repeat."""
    from vqa_jax import encodes
    from vqa_jax.media import sources

    times = Counter(map(os.path.basename, names))
    return [
        encodes.given(
            stack.enter_context(sources.local(name, limits.seconds)),
            name if times[os.path.basename(name)] > 1 else os.path.basename(name),
            limits,
        )
        for name in names
    ]


def _tell(args: argparse.Namespace, found: Ladder) -> int:
    """Prints a ladder and writes its files; the exit status."""
    from vqa_jax.cli.score_table import write_rows
    from vqa_jax.jobs.files import write_json

    text = ladder_table.render(found)
    page = os.path.join(args.out, PAGE_FILE) if args.out else ""
    command.say(args, f"{text}\npage: {page}" if page else text)  # before the files, may fail
    rows, columns = ladder_table.rows(found), ladder_table.columns(found)
    told = dataclasses.asdict(found)
    if args.csv:
        write_rows(args.csv, rows, columns)
    if args.json:
        write_json(args.json, told)
    if args.out:
        from vqa_jax.report import ladder as report

        write_rows(os.path.join(args.out, CSV_FILE), rows, columns)
        write_json(os.path.join(args.out, JSON_FILE), told)
        report.write(found, page)
    return 1 if any(rung.error is not None for rung in found.rungs) else 0
