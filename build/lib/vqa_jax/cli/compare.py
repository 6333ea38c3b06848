"""The command `compare`."""

from __future__ import annotations

import argparse
import dataclasses
import os
from typing import Any

from vqa_jax.cli import command, compare_table
from vqa_jax.settings import ScoreConfig

PAGE_FILE, JSON_FILE = "compare.html", "compare.json"
FAILED = 3  # exit status where a condition of --fail_if is true


def add(commands: Any) -> None:
    """Adds the command to argparse's sub-commands."""
    sub = command.add(
        commands,
        "compare",
        _compare,
        "Compare versions of a video with each other, in both orders, and rank them.",
    )
    text = "videos, called A, B, C ... in this order; URLs too"
    sub.add_argument("videos", nargs="+", metavar="VIDEO", help=text)
    text = "their source: it is ranked too (as REF), and every version compared with it over time"
    sub.add_argument("--reference", metavar="VIDEO", help=text)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--anchors", metavar="FILE", help="table of other anchors: path, mos or score")
    text = (
        f'exit status {FAILED} if true: "B<A-5", "A<60" (scores) or "P(B>A)<0.4"; may be repeated'
    )
    sub.add_argument("--fail_if", action="append", default=[], metavar="CONDITION", help=text)
    text = "folder for the page, which also shows when they differ most from REF, or from A"
    command.add_output(sub, "--out", "folder", text)
    command.add_output(sub, "--json", "text", "write all numbers; - for the terminal")
    command.add_devices(sub)
    command.add_limits(sub)


def _compare(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax.jobs.files import write_json
    from vqa_jax.scoring import differences, versions

    for condition in args.fail_if:
        versions.parsed(condition)
    config = ScoreConfig(limits=command.limits_of(args))
    student = loading.load(args.student, anchors=args.anchors, **command.devices_of(args))
    ranking = versions.rank(student, args.videos, args.reference, config)
    over_time = []
    if args.out:
        base = ranking.versions[-1 if args.reference else 0]
        over_time = [
            differences.between(student, (base.name, base.path), (v.name, v.path), config.limits)
            for v in ranking.versions
            if v is not base and v.error is None and base.error is None
        ]
    failed = any(version.error is not None for version in ranking.versions)
    true = [] if failed else [c for c in args.fail_if if versions.holds(c, ranking)]
    lines = [compare_table.render(ranking, over_time), *(f"FAILED: {c}" for c in true)]
    if args.out:
        lines.append(f"page: {os.path.join(args.out, PAGE_FILE)}")
    command.say(args, "\n".join(lines))  # before the files, which may fail
    told = {
        **dataclasses.asdict(ranking),
        "over_time": [_numbers(found) for found in over_time],
        "failed": true,
    }
    if args.json:
        write_json(args.json, told)
    if args.out:
        from vqa_jax.report import versions as page

        os.makedirs(args.out, exist_ok=True)
        write_json(os.path.join(args.out, JSON_FILE), told)
        page.write(ranking, over_time, os.path.join(args.out, PAGE_FILE))
    return 1 if failed else FAILED if true else 0


def _numbers(found: Any) -> dict[str, Any]:
    """What JSON tells of two versions over time: all but the pictures."""
    told = dataclasses.asdict(dataclasses.replace(found, most=()))
    return {**told, "most": [dataclasses.asdict(shown.moment) for shown in found.most]}
