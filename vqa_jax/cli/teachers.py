"""The command `teachers` with its actions: list, score, fit, agree, view."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vqa_jax.cli import command

if TYPE_CHECKING:  # --help must be fast
    from vqa_jax.teachers.job import TeacherOutcome
    from vqa_jax.teachers.known import TeacherCard


def add(commands: Any) -> None:
    """Adds the command to argparse's sub-commands."""
    text = "List teachers, score videos with them, see how they agree."
    parser = commands.add_parser("teachers", help=text, description=text)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    weights = "folder of the weights (default: $VQA_JAX_TEACHERS or ~/.cache/vqa_jax/teachers)"

    text = "List what there is, and whether its weights are here."
    sub = command.add(actions, "list", _list, text)
    text = "all that is known, as JSON; to the terminal without FILE"
    command.add_output(sub, "--json", "text", text, nargs="?", const="-", metavar="FILE")
    sub.add_argument("--weights", help=weights)

    text = "Write the score table of videos."
    sub = command.add(actions, "score", _score, text, kept=command.RESUMES)
    sub.add_argument("--teachers", required=True, help="names, with commas between")
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("--videos", nargs="+", help="files, folders, globs, tables")
    text = "prepared corpus: light teachers score its key frames, others the views that it keeps"
    command.add_input(sub, "--data", text, what, metavar="DIR")
    text = "of `teachers fit`: versions of its pictures are scored out of fold (with --data)"
    command.add_input(sub, "--folds", text, default="", metavar="OOF_CSV")
    command.add_output(sub, "--out", "folder", "folder to write", required=True)
    sub.add_argument("--weights", help=weights)
    text = "of what is drawn at random (default: 0; a corpus has its own)"
    sub.add_argument("--seed", type=int, help=text)
    sub.add_argument("--draws", type=int, default=1, help="mean over so many draws (of files)")
    sub.add_argument("--unit", type=int, default=64, help="videos that a restart repeats at most")
    sub.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="decoding threads")
    command.add_shares(sub)
    command.add_limits(sub)

    text = "Fit light teachers on pictures with human scores."
    sub = command.add(actions, "fit", _fit, text, kept=command.RESUMES)
    text = "table of human scores: path, mos[, content]"
    command.add_input(sub, "--scores", text, required=True)
    text = "folder of the pictures; a folder in it is a kind"
    sub.add_argument("--photographs", required=True, metavar="DIR", help=text)
    command.add_output(sub, "--out", "folder", "folder to write", required=True)
    sub.add_argument("--teachers", default="", help="names, with commas between (default: all)")
    sub.add_argument("--folds", type=int, default=10, help="of the cross-validation")
    sub.add_argument("--seed", type=int, default=0, help="of folds and chosen pictures")
    sub.add_argument("--trained_on", default="not stated", help="name of the set, for the cards")
    sub.add_argument("--terms", default="not stated", help="of scores and pictures, for the cards")
    sub.add_argument("--weights", default="", help="folder of towers that are not shipped")
    sub.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="decoding threads")
    command.add_limits(sub)

    text = "Tell agreement, odd teachers, worth of their labels."
    sub = command.add(actions, "agree", _agree, text)
    text = "score tables, one a set of videos"
    command.add_input(sub, "--scores", text, nargs="+", required=True)
    sub.add_argument("--lower", default="", help="teachers whose lower scores are better")
    sub.add_argument("--unite", default="zscore", choices=("zscore", "rank", "logistic"))
    sub.add_argument("--std_floor", type=float, default=0.0, help="lowest s_D, on that scale")
    text = "folder of teachers.html and ensemble.json"
    command.add_output(sub, "--out", "folder", text, required=True)

    sub = command.add(actions, "view", _view, "Draw a frame and its fragments.")
    sub.add_argument("video", metavar="VIDEO")
    command.add_output(sub, "--out", "file", "PNG file to write", required=True)
    sub.add_argument("--seed", type=int, default=0, help="of the patches' places")


def _weights_state(card: TeacherCard, folder: str) -> str:
    from vqa_jax.teachers.known import BUILT_IN, IMPORTED, LIGHT

    if card.kind == BUILT_IN:
        return "needs none"
    if card.kind == LIGHT:
        return "found"
    if card.kind == IMPORTED:
        return "import its scores"
    missing = card.missing(folder)
    return "found" if not missing else "missing: " + ", ".join(f.name for f in missing)


def _facts(card: TeacherCard, folder: str) -> dict[str, Any]:
    from vqa_jax.teachers.known import BUILT_IN, IMPORTED

    missing = {f.name for f in card.missing(folder)}
    return {
        **dataclasses.asdict(card),
        "published": card.results(),
        "files": [
            {
                **dataclasses.asdict(f),
                "path": os.path.join(folder, f.name),
                "found": f.name not in missing,
            }
            for f in card.files
        ],
        "ready": card.kind == BUILT_IN or (card.kind != IMPORTED and not missing),
    }


def _list(args: argparse.Namespace) -> command.Result:
    from vqa_jax.jobs.files import write_json
    from vqa_jax.teachers import cards as teacher_registry
    from vqa_jax.teachers.known import BUILT_IN

    folder = teacher_registry.weights_folder(args.weights)
    cards = teacher_registry.cards(folder)
    if args.json:
        write_json(args.json, [_facts(card, folder) for card in cards])
        return 0
    lines = [f"weights are looked for in {folder}"]
    for card in cards:
        direction = "higher" if card.higher_is_better else "lower"
        lines.append(f"\n{card.name}  [{card.kind}; weights: {_weights_state(card, folder)}]")
        lines.append(f"  {card.summary}")
        lines.append(f"  range: {card.score_range}; {direction} is better")
        if card.kind != BUILT_IN:
            size = f"; {card.parameters / 1e6:,.2f}M parameters" if card.parameters else ""
            lines.append(f"  trained on: {card.trained_on}{size}; licence: {card.licence}")
        for file in card.files:
            lines.append(
                f"  {file.name}: from {file.origin}; licence of the weights: {file.licence}"
            )
        sources: dict[str, list[str]] = {}
        for row in card.results():
            figures = "/".join(x or "-" for x in (row["srcc"], row["plcc"]))
            sources.setdefault(row["source"], []).append(f"{row['dataset']} {figures}")
        lines += [f"  SRCC/PLCC ({s}): {', '.join(found)}" for s, found in sources.items()]
    return "\n".join(lines), 0


def _score(args: argparse.Namespace) -> command.Result:
    from vqa_jax.teachers import cards as teacher_registry
    from vqa_jax.teachers import job
    from vqa_jax.teachers.known import BUILT_IN

    names = _names(args.teachers)
    folder = teacher_registry.weights_folder(args.weights)
    cards = teacher_registry.check(names, folder)
    with command.told_as_settings():
        limits = command.limits_of(args)
        config = job.JobConfig(args.seed or 0, args.draws, args.unit, args.workers, limits=limits)
    shares = (args.process, args.processes)
    if args.data is not None:
        found = _score_corpus(args, names, folder, shares)
    else:
        videos = job.list_videos(args.videos)
        if all(card.kind == BUILT_IN for card in cards):
            teachers = [teacher_registry.built_in(name) for name in names]
        else:
            from vqa_jax.teachers.neural import load

            teachers = load.load_teachers(names, folder)
        found = job.run(videos, teachers, args.out, config, *shares)
    if found.missing:
        return f"{found.missing} ranges of videos are left to other processes", 0
    table = os.path.join(args.out, job.TABLE_CSV)
    lines = [f"{found.scored} videos scored, {found.failed} failed: {table}"]
    lower = [card.name for card in cards if not card.higher_is_better]
    if lower:
        lines.append(f"lower is better: name {', '.join(lower)} in pairs.lower_is_better")
    return "\n".join(lines), 0 if found.scored else 1


def _score_corpus(
    args: argparse.Namespace, names: Sequence[str], folder: str, shares: tuple[int, int]
) -> TeacherOutcome:
    from vqa_jax.teachers import cards as teacher_registry
    from vqa_jax.teachers import corpus_job, looks
    from vqa_jax.teachers.known import BUILT_IN, LIGHT
    from vqa_jax.teachers.neural import load

    cards = teacher_registry.check(names, folder)
    if built_in := [card.name for card in cards if card.kind == BUILT_IN]:
        raise teacher_registry.TeacherError(
            f"{', '.join(built_in)}: built-in teachers score a corpus while it is prepared"
            " (prep.teachers), in columns of its videos.parquet"
        )
    others = [c.name for c in cards if c.kind != LIGHT and c.name not in looks.LOOKS]
    if others:
        raise teacher_registry.TeacherError(
            f"{', '.join(others)}: a corpus cannot keep what they look at; score the original"
            " files with --videos"
        )
    if args.seed is not None or args.draws != 1:
        raise teacher_registry.TeacherError(
            "a corpus keeps one draw, of the seed that it was prepared with: leave out --seed and"
            " --draws"
        )
    corpus_job.check(args.data, names)  # before the weights are read
    teachers = load.load_teachers(names, folder)
    return corpus_job.run(args.data, teachers, args.out, args.folds, *shares, args.workers)


def _fit(args: argparse.Namespace) -> command.Result:
    from vqa_jax.teachers.light import features, fit, model

    chosen = [name.removeprefix(model.PREFIX) for name in _names(args.teachers)]
    with command.told_as_settings():
        config = fit.FitConfig(
            families=tuple(chosen) or tuple(features.DEFAULT),
            folds=args.folds,
            seed=args.seed,
            trained_on=args.trained_on,
            terms=args.terms,
            towers=args.weights,
            workers=args.workers,
            limits=command.limits_of(args),
        )
    found = fit.fit(args.scores, args.photographs, args.out, config)
    lines = [f"{found['pictures']} pictures, {found['left_out']} left out: {args.out}"]
    for family in config.families:
        card = model.read_card(model.paths(args.out, model.teacher_name(family))[0])
        lines.append(f"{card.name}: {model.told(card)}")
    return "\n".join(lines), 0


def _agree(args: argparse.Namespace) -> command.Result:
    from vqa_jax.report import teachers as report

    facts = report.describe_tables(args.scores, _names(args.lower), args.unite, args.std_floor)
    command.say(args, report.text_tables(facts))  # before the page, which may fail
    return f"report: {report.write(facts, args.out)}", 0


def _view(args: argparse.Namespace) -> command.Result:
    from vqa_jax.report import fragments

    fragments.draw(args.video, args.out, args.seed)
    return f"picture: {args.out}", 0


def _names(text: str) -> Sequence[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
