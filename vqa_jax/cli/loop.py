"""Commands of an iteration: evaluate, relabel, report."""

from __future__ import annotations

import argparse

from vqa_jax.cli.command import _LEFT, SettingsError, _load, _say


def _evaluate(args: argparse.Namespace) -> int:
    from vqa_jax import report
    from vqa_jax.jobs import ranges
    from vqa_jax.loop import evaluate

    share = ranges.Share(args.process, args.processes)
    student = _load(args.student)
    found = evaluate.evaluate(student.judge, args.data, args.out, share)
    _say(report.evaluation_table(found) if found else _LEFT)
    return 0


def _relabel(args: argparse.Namespace) -> int:
    from vqa_jax import settings as vqa_jax_settings
    from vqa_jax.jobs import ranges
    from vqa_jax.loop import relabel
    from vqa_jax.report import relabelling

    share = ranges.Share(args.process, args.processes)
    try:
        settings = vqa_jax_settings.RelabelConfig(**args.config.relabel.to_dict())
    except (TypeError, ValueError) as error:
        raise SettingsError(f"--config: {error}") from error
    student = _load(args.student)
    facts = relabel.relabel(
        student.judge,
        args.data,
        args.iteration,
        settings,
        args.scores,
        share,
    )
    if facts is None:
        _say(_LEFT)
    else:
        _say(relabelling.text_table_of(facts))
        _say(f"report: {relabelling.write(args.data, args.iteration)}")
    return 0


def _report(args: argparse.Namespace) -> int:
    from vqa_jax import report

    path = report.build_report(args.run)
    _say(report.summary_table(args.run))
    _say(f"report: {path}")
    return 0
