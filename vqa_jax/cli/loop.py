"""Commands of an iteration: `evaluate`, `relabel`, `report`."""

from __future__ import annotations

import argparse
from typing import Any

from vqa_jax.cli import command


def add(commands: Any) -> None:
    """Adds the commands to argparse's sub-commands."""
    sub = command.add(
        commands, "evaluate", _evaluate, "Evaluate on held-out sources.", kept=command.RESUMES
    )
    sub.add_argument("--student", required=True, help="student's folder")
    command.add_input(sub, "--data", "corpus folder", required=True)
    command.add_output(sub, "--out", "folder", "folder to write", required=True)
    command.add_devices(sub)
    command.add_shares(sub)

    sub = command.add(
        commands,
        "relabel",
        _relabel,
        "Write the next iteration's pairs.",
        kept=command.RESUMES,
        takes_config=True,
    )
    sub.add_argument("--student", required=True, help="folder of the student that relabels")
    command.add_output(sub, "--data", "folder", "corpus folder; gets the pairs", required=True)
    command.add_devices(sub)
    command.add_shares(sub)
    sub.add_argument("--iteration", type=int, required=True, help="number of the new pairs")
    text = "further teachers' scores: CSV, Parquet or JSON lines; may be repeated"
    many = {"action": "append", "default": [], "metavar": "FILE"}
    command.add_input(sub, "--scores", text, **many)

    sub = command.add(commands, "report", _report, "Write report.html of a run.")
    command.add_output(sub, "--run", "folder", "folder of the run; gets the page", required=True)


def _evaluate(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax.jobs import ranges
    from vqa_jax.loop import evaluate
    from vqa_jax.report import run as report

    share = ranges.Share(args.process, args.processes)
    student = loading.load(args.student, **command.devices_of(args))
    found = evaluate.evaluate(student.judge, args.data, args.out, share)
    return report.evaluation_table(found) if found else command.LEFT, 0


def _relabel(args: argparse.Namespace) -> command.Result:
    from vqa_jax import loading
    from vqa_jax import settings as vqa_jax_settings
    from vqa_jax.jobs import ranges
    from vqa_jax.loop import relabel
    from vqa_jax.report import relabelling

    share = ranges.Share(args.process, args.processes)
    with command.told_as_settings("--config: "):
        settings = vqa_jax_settings.RelabelConfig(**args.config.relabel.to_dict())
    student = loading.load(args.student, **command.devices_of(args))
    facts = relabel.relabel(
        student.judge,
        args.data,
        args.iteration,
        settings,
        args.scores,
        share,
    )
    if facts is None:
        return command.LEFT, 0
    command.say(args, relabelling.text_table_of(facts))
    return f"report: {relabelling.write(args.data, args.iteration)}", 0


def _report(args: argparse.Namespace) -> command.Result:
    from vqa_jax.report import run as report

    command.say(args, report.summary_table(args.run))  # before the page, which may fail
    return f"report: {report.build_report(args.run)}", 0
