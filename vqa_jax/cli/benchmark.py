"""The commands `doctor` and `benchmark`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add(commands: Any, handler: Callable[[argparse.Namespace], int]) -> None:
    """Adds both commands to argparse's sub-commands.

    Args:
      commands: of the main parser.
      handler: gets the arguments, whose `run(args)` gives (text to say, exit status).
    """
    text = "Check a benchmark's labels and videos before scoring them."
    sub = commands.add_parser("doctor", help=text, description=text)
    sub.set_defaults(handler=handler, run=_doctor)
    sub.add_argument("--benchmark", required=True, help="its name, such as KoNViD-1k")
    sub.add_argument("--videos", required=True, help="folder with the videos, anywhere below it")
    sub.add_argument("--labels", required=True, help="label file: CSV, text, JSON or MATLAB")
    sub.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    sub.add_argument("--csv", help="write one row a labelled video")
    text = "Evaluate scores on labelled test sets, beside published results."
    sub = commands.add_parser("benchmark", help=text, description=text)
    sub.set_defaults(handler=handler, run=_benchmark)
    many = {"nargs": "+", "metavar": "FILE"}
    sub.add_argument(
        "--labels", required=True, help="SET.csv, NAME=FILE, or a folder of them", **many
    )
    sub.add_argument(
        "--predictions", required=True, help="scores: one file for all sets, or one a set", **many
    )
    sub.add_argument("--column", default="", help="the scores' column; A+B: sum of z-scores")
    sub.add_argument("--name", default="this model", help="what to call the model")
    sub.add_argument("--against", help="scores of a second model, to test differences", **many)
    sub.add_argument("--against_column", default="", help="its column (default: --column)")
    sub.add_argument("--against_name", default="the other model", help="what to call it")
    sub.add_argument("--draws", type=int, default=1000, help="bootstrap resamples")
    sub.add_argument("--seed", type=int, default=0, help="of the resamples")
    sub.add_argument("--out", help="folder for benchmark.html, .json and the videos' rows")


def _doctor(args: argparse.Namespace) -> tuple[str, int]:
    from vqa_jax.benchmarks import doctor, sets

    benchmark = sets.named(args.benchmark)
    found = doctor.examine(benchmark, args.videos, args.labels, args.workers)
    if args.csv:
        doctor.write_csv(found, args.csv)
    return doctor.render(found), 0 if found.healthy else 1


def _benchmark(args: argparse.Namespace) -> tuple[str, int]:
    from vqa_jax.benchmarks import run
    from vqa_jax.benchmarks.labels import label_files
    from vqa_jax.report import benchmark as report

    labels = label_files(args.labels)
    settings = {"draws": args.draws, "seed": args.seed}
    runs = [run.read_run(args.name, args.predictions, labels, args.column, **settings)]
    comparisons: list[Any] = []
    if args.against:
        column = args.against_column or args.column
        name = args.against_name
        runs.append(run.read_run(name, args.against, labels, column, **settings))
        comparisons = run.compare(*runs, **settings)
    text = report.render(runs, comparisons)
    if args.out:
        text += f"\n\npage: {report.write(runs, comparisons, args.out)}"
    return text, 0
