"""The command `score`."""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vqa_jax.cli.command import SettingsError, _load, _say
from vqa_jax.jobs.files import write_json
from vqa_jax.settings import EPSILON, ScoreConfig

if TYPE_CHECKING:  # --help must not import JAX
    from vqa_jax.scoring.predictor import Predictor, Result


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
        "--epsilon", type=float, default=EPSILON, help=f"of --adaptive (default: {EPSILON})"
    )
    sub.add_argument("--csv", help="write one row a file")
    sub.add_argument("--json", help="write the same as JSON")


def _score(args: argparse.Namespace) -> tuple[str, int]:
    from vqa_jax import loading
    from vqa_jax.media.find import find_videos
    from vqa_jax.settings import ScoreConfig

    if not args.epsilon > 0:
        return f"--epsilon {args.epsilon:g}: give a number above 0", 2
    paths = find_videos(args.paths)
    if not paths:
        return f"no video in {', '.join(args.paths)}", 2
    for path in filter(None, (args.csv, args.json)):  # now, not after hours of scoring
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    config = ScoreConfig(args.epsilon if args.adaptive else 0.0, args.both_orders, args.protocol)
    student = loading.load(args.student, anchors=args.anchors)
    results = collect(student, paths, args.csv, config)
    text = render(results, len(student.judge.anchors.names))
    if args.student is None:
        text = f"No --student given: scored with the shipped tiny student.\n{text}"
    if args.json:
        write_results(results, args.json)
    return text, 0 if any(r.error is None for r in results) else 1


def _timeline(args: argparse.Namespace) -> int:
    from vqa_jax.scoring import timeline

    try:
        found = timeline.run(_load(args.student), args.video, args.out, args.window, args.stride)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    _say(timeline.render(found, args.out))
    return 0 if any(m.error is None for m in found.moments) else 1


DIRECTION = "higher is better"


PARTIAL = ".partial"


def _row(result: Result) -> dict[str, Any]:
    return {**dataclasses.asdict(result), "direction": DIRECTION}


def collect(
    student: Predictor,
    paths: Sequence[str],
    csv_path: str | None,
    config: ScoreConfig | None = None,
) -> list[Result]:
    """Scores all paths with a progress bar; failures are results with an error.

    Rows go to `csv_path` + ".partial" as they come, renamed at the end: an interrupted run keeps
    what it has scored.
    """
    results = []
    from vqa_jax.scoring.predictor import Result

    columns = [f.name for f in dataclasses.fields(Result)] + ["direction"]
    with contextlib.ExitStack() as stack:
        writer = None
        if csv_path:
            file = stack.enter_context(
                open(
                    csv_path + PARTIAL, "w", newline="", encoding="utf-8", errors="surrogateescape"
                )
            )
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
        found = student.iter_scores(paths, config)
        for result in tqdm(found, total=len(paths), desc="score", unit="video"):
            results.append(result)
            if writer is not None:
                writer.writerow(_row(result))
                file.flush()
    if csv_path:
        os.replace(csv_path + PARTIAL, csv_path)
    return results


def render(results: Sequence[Result], anchors: int) -> str:
    """The table for the terminal, best first, failures last, with what the numbers mean.

    anchors: how many there are, to tell what was saved.
    """
    good = sorted((r for r in results if r.error is None), key=lambda r: -(r.score or 0.0))
    lines = [f"{'score':>8}  {'std':>6}  path"]
    for row in good:
        mark = " (beyond the anchors)" if row.extrapolated else ""
        std = "-" if row.std is None else f"{row.std:.2f}"
        lines.append(f"{row.score:8.2f}  {std:>6}  {row.path}{mark}")
    for row in results:
        if row.error is not None:
            lines.append(f"{'-':>8}  {'-':>6}  {row.path}: {row.error}")
    lines += _notes(good, anchors)
    lines.append(f"scale: {results[0].scale}")
    lines.append(
        f"model: {results[0].model}; {len(good)} scored, {len(results) - len(good)} failed"
    )
    return "\n".join(lines)


def _notes(good: Sequence[Result], anchors: int) -> list[str]:
    """What the mode has to tell: comparisons saved, answers that contradict each other."""
    made = [r.comparisons for r in good if r.comparisons is not None]
    lines = []
    if sum(made) < anchors * len(made):
        saved = 1 - sum(made) / (anchors * len(made))
        mean = sum(made) / len(made)
        lines.append(f"{mean:.2f} of {anchors} comparisons a video: {saved:.0%} saved")
    shares = [r.contradictions for r in good if r.contradictions is not None]
    if shares:
        mean = sum(shares) / len(shares)
        lines.append(f"both orders: the answers contradict each other in {mean:.1%} of the pairs")
    return lines


def write_results(results: Sequence[Result], path: str) -> None:
    """Writes the CSV's rows as JSON."""
    write_json(path, [_row(r) for r in results])
