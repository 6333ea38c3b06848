"""The commands `score` and `timeline`."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from vqa_jax.cli import command
from vqa_jax.jobs import outputs, places
from vqa_jax.jobs.files import write_json
from vqa_jax.settings import EPSILON, ScoreConfig


def add(commands: Any) -> None:
    """Adds the commands to argparse's sub-commands."""
    sub = command.add(
        commands,
        "score",
        _score,
        "Score files, folders, glob patterns or listings.",
        kept="with --csv FILE what is finished is kept; the same command goes on from there",
    )
    text = "videos, folders of them, patterns, tables (.csv, .jsonl, .parquet) with a column path;"
    text += " - for names on standard input, one a line"
    sub.add_argument("paths", nargs="+", metavar="PATH", help=text)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
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
    text = "fail if any file has no score (default: if none has)"
    sub.add_argument("--strict", action="store_true", help=text)
    command.add_devices(sub)
    command.add_shares(sub)
    command.add_limits(sub)
    text = "write rows in parts, for very many files: resumed, shared, a manifest last"
    command.add_output(sub, "--out", "folder", text, metavar="DIR")
    sub.add_argument("--format", choices=("parquet", "jsonl"), default="parquet", help="of --out")
    text = "folder for what the student sees: kinds of flaw, pictures and motion, places"
    command.add_output(sub, "--explain", "folder", text, metavar="DIR")
    command.add_output(sub, "--csv", "text", "write one row a file; - for the terminal")
    command.add_output(sub, "--json", "text", "write the same as JSON; - for the terminal")

    sub = command.add(
        commands,
        "timeline",
        _timeline,
        "Score videos' passages, show the worst.",
    )
    sub.add_argument("videos", nargs="+", metavar="VIDEO", help="files or URLs")
    text = "folder for table and page; of several videos each has a folder in it"
    command.add_output(sub, "--out", "folder", text)
    command.add_output(sub, "--json", "text", "write all numbers; - for the terminal")
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--window", type=float, default=2.0, help="seconds of a passage")
    sub.add_argument("--stride", type=float, default=1.0, help="seconds between passages' starts")
    sub.add_argument("--start", type=float, default=0.0, help="look at the video from this second")
    text = "look at so many seconds of it (default: the rest)"
    sub.add_argument("--length", type=float, default=0.0, help=text)
    command.add_devices(sub)
    command.add_limits(sub)


def _score(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax.cli import score_table
    from vqa_jax.jobs.ranges import Share
    from vqa_jax.scoring import job
    from vqa_jax.scoring.results import COLUMNS, Result, row_of

    if not args.epsilon > 0:
        return f"--epsilon {args.epsilon:g}: give a number above 0", 2
    kept = _kept_table(args)
    if args.explain and (args.out or args.processes > 1):
        return "--explain is for the videos of one table: without --out and --processes", 2
    if args.out and (args.csv or args.json):
        return "--out writes parts: name no --csv or --json beside it", 2
    if args.processes > 1 and kept is None and not args.out:
        return "--processes shares the rows of a table: name a file by --csv, or --out", 2
    share = Share(args.process, args.processes)
    paths = _listed(args.paths)
    if not paths:
        return f"no video in {', '.join(args.paths)}", 2
    with command.told_as_settings():
        config = ScoreConfig(
            args.epsilon if args.adaptive else 0.0,
            args.both_orders,
            args.protocol,
            limits=command.limits_of(args),
        )
    student = loading.load(args.student, anchors=args.anchors, **command.devices_of(args))
    if args.explain:
        from vqa_jax.scoring import explanation

        explanation.head_of(student)  # a student without one says so before the work
    if args.out:
        return _scored_in_parts(args, student, paths, config, share)
    columns, failed, scored = COLUMNS, [], []

    def publish(results: list[Result]) -> None:
        failed.extend(result for result in results if result.error is not None)
        scored.extend(result.path for result in results if result.error is None)
        text = score_table.render(results, len(student.judge.anchors.names))
        if args.student is None:
            text = f"No --student given: scored with the shipped {loading.DEFAULT} student.\n{text}"
        command.say(args, text)  # before the files, which may fail
        rows = [row_of(result) for result in results]
        with contextlib.ExitStack() as files:  # the failure of one does not keep the other away
            if args.json:
                files.callback(write_json, args.json, rows)
            if stream:
                stream.finish()
            elif args.csv:
                score_table.write_rows(args.csv, rows, columns)

    stream = score_table.RowStream(args.csv, columns) if args.csv and kept != args.csv else None
    if kept is None:
        tell = (lambda result: stream.add(row_of(result))) if stream else _untold
        publish(job.score(student, paths, config, tell))
    elif not job.run(student, paths, config, kept, publish, share):
        return command.LEFT, 0
    if args.explain:
        _explain(args, student, scored, config)
    return 1 if failed and (args.strict or len(failed) == len(paths)) else 0


def _explain(args: argparse.Namespace, student: Any, paths: list[str], config: ScoreConfig) -> None:
    """Writes what the student sees in videos that have a score."""
    from vqa_jax.media.container import MediaError
    from vqa_jax.report import explanation as page
    from vqa_jax.scoring import explanation

    found, told = [], []
    for path in paths:
        try:
            found.append(one := explanation.explain(student, path, config))
        except MediaError as error:  # it was there a moment ago
            command.say(args, str(error))
            told.append({"path": path, "error": str(error)})
            continue
        command.say(args, page.render(one))
        told.append(page.numbers(one))
    os.makedirs(args.explain, exist_ok=True)
    write_json(
        os.path.join(args.explain, "explanation.json"), {"not": explanation.NOT, "videos": told}
    )
    command.say(args, f"page: {page.write(found, student.judge.describe(), args.explain)}")


def _scored_in_parts(
    args: argparse.Namespace, student: Any, paths: list[str], config: ScoreConfig, share: Any
) -> command.Result:
    from vqa_jax.scoring import parts

    told = parts.run(student, paths, config, args.out, args.format, share)
    if told is None:
        return command.LEFT, 0
    failed, number = told["failed"], told["rows"]
    text = f"{number - failed} scored, {failed} failed, {len(told['parts'])} parts in {args.out}"
    bad = failed and (args.strict or failed == number)
    return f"{text}\nscale: {told['scale']}\nmodel: {told['model']}", 1 if bad else 0


def _kept_table(args: argparse.Namespace) -> str | None:
    """The file beside which finished rows are kept: the table, unless it is a stream."""
    table = args.csv or args.json
    return table if table and not outputs.is_stream(table) else None


def _untold(result: Any) -> None:
    """What becomes of a result that nobody waits for."""


def _listed(names: list[str]) -> list[str]:
    """The files to score: what a listing names as it is named there, all else as it is found."""
    from vqa_jax.benchmarks import text_table
    from vqa_jax.media.find import find_videos

    listed: list[str] = []
    others: list[str] = []
    for name in names:
        if name == "-":
            lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").split("\n")
            listed += filter(None, (line.removesuffix("\r") for line in lines))
        elif name.lower().endswith(text_table.TABLES):
            from vqa_jax.benchmarks import score_tables  # its Arrow is no part of scoring alone

            listed += score_tables.read_paths(places.staged(name))
        else:
            others.append(name)
    return list(dict.fromkeys([*listed, *(find_videos(others, stills=True) if others else ())]))


def _timeline(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax.media.container import MediaError
    from vqa_jax.scoring import timeline

    if not (args.out or args.json):
        return "name a folder by --out, a file by --json, or both", 2
    student = loading.load(args.student, **command.devices_of(args))
    limits, told, good = command.limits_of(args), [], 0
    for number, video in enumerate(args.videos, 1):
        try:
            with command.told_as_settings():
                parts = args.window, args.stride
                found = timeline.score_passages(
                    student, video, *parts, limits, args.start, args.length
                )
        except MediaError as error:
            if len(args.videos) == 1:
                raise
            command.say(args, f"{video}: {error.reason} [{error.stage}]")
            told.append({"path": video, "error": f"{error.reason} [{error.stage}]"})
            continue
        out = args.out
        if out and len(args.videos) > 1:  # names may come twice, and hold anything
            out = os.path.join(out, f"{number:04d}-{os.path.basename(video)[:100]}")
        _show(args, found, out)
        told.append(timeline.numbers(found))
        good += any(moment.error is None for moment in found.moments)
    if args.json:
        write_json(args.json, told)
    return 0 if good else 1


def _show(args: argparse.Namespace, found: Any, out: str | None) -> None:
    """Prints a timeline and writes its files."""
    from vqa_jax.report import timeline as page
    from vqa_jax.scoring import timeline

    command.say(args, page.render(found, out))  # before the files, which may fail
    if out:
        timeline.write_table(found, out)
        page.write(found, out)
