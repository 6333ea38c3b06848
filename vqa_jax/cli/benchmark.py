"""The commands `doctor` and `benchmark`."""

from __future__ import annotations

import argparse
from typing import Any

from vqa_jax.cli import command


def add(commands: Any) -> None:
    """Adds the commands to argparse's sub-commands."""
    sub = command.add(
        commands, "doctor", _doctor, "Check a benchmark's labels and videos before scoring them."
    )
    sub.add_argument("--benchmark", required=True, help="its name, such as KoNViD-1k")
    sub.add_argument("--videos", required=True, help="folder with the videos, anywhere below it")
    text = "label file: CSV, text, JSON or MATLAB"
    command.add_input(sub, "--labels", text, required=True)
    sub.add_argument("--workers", type=int, default=0, help="processes (default: one a core)")
    command.add_output(sub, "--csv", "text", "write one row a labelled video; - for the terminal")

    sub = command.add(
        commands,
        "benchmark",
        _benchmark,
        "Evaluate scores on labelled test sets, beside published results.",
    )
    many = {"nargs": "+", "metavar": "FILE"}
    text = "SET.csv, NAME=FILE, or a folder of them"
    command.add_input(sub, "--labels", text, required=True, **many)
    text = "scores: one file for all sets, or one a set"
    command.add_input(sub, "--predictions", text, required=True, **many)
    sub.add_argument("--column", default="", help="the scores' column; A+B: sum of z-scores")
    sub.add_argument("--name", default="this model", help="what to call the model")
    text = "scores of a second model, to test differences"
    command.add_input(sub, "--against", text, **many)
    sub.add_argument("--against_column", default="", help="its column (default: --column)")
    sub.add_argument("--against_name", default="the other model", help="what to call it")
    sub.add_argument("--draws", type=int, default=1000, help="bootstrap resamples")
    sub.add_argument("--seed", type=int, default=0, help="of the resamples")
    text = "folder for benchmark.html, .json and the videos' rows"
    command.add_output(sub, "--out", "folder", text)


def _doctor(args: argparse.Namespace) -> command.Result:
    from vqa_jax.benchmarks import doctor, sets

    benchmark = sets.named(args.benchmark)
    found = doctor.examine(benchmark, args.videos, args.labels, args.workers)
    command.say(args, doctor.render(found))  # before the file, which may fail
    if args.csv:
        doctor.write_csv(found, args.csv)
    return 0 if found.healthy else 1


def _benchmark(args: argparse.Namespace) -> command.Result:
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
    command.say(args, report.render(runs, comparisons))  # before the files, which may fail
    if args.out:
        command.say(args, f"\npage: {report.write(runs, comparisons, args.out)}")
    return 0
