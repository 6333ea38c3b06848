"""Command line of the preparation: `python -m data_prep COMMAND`; `--help` lists the commands.

Beam and the models of the teachers are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from vqa_jax.cli import command

_MOS = "human scores: NAME=FILE, NAME.csv, or a folder of such; may be repeated"
_LISTING = "folder, glob or table (.csv, .jsonl, .parquet) of videos"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      argv: its arguments; None: those of the process.

    Returns:
      The exit status. Mistakes in the arguments raise SystemExit(2).
    """
    program, commands = command.parser(
        "python -m data_prep", "Prepares a corpus to learn from.", "prep"
    )
    for add in (_add_inputs, _add_build, _add_labels, _add_verify, _add_costs):
        add(commands)
    return command.run(program, argv)


# --- what goes in: made-up videos, measured videos, chosen videos ---------------------------------


def _add_inputs(commands: Any) -> None:
    text = "Make videos to learn from."
    sub = command.add(commands, "scenes", _scenes, text, kept=command.RESUMES)
    text = "folder for the mp4 files and scenes.json"
    command.add_output(sub, "--out", "folder", text, required=True)
    sub.add_argument("--num", type=int, default=72, help="how many")
    sub.add_argument("--seed", type=int, default=0, help="of what is drawn")
    sub.add_argument("--photos", help="folder of further jpg or png pictures")
    sub.add_argument("--size", default="384x288", metavar="WxH", help="of the pictures")
    sub.add_argument("--seconds", type=float, default=3.2, help="length of a video")
    sub.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes")

    text = "Make clips of whole photographs: still, or under a moving camera."
    sub = command.add(commands, "clips", _clips, text, kept=command.RESUMES)
    text = "folder for the mp4 files and scenes.json"
    command.add_output(sub, "--out", "folder", text, required=True)
    _add_photographs(sub)
    sub.add_argument(
        "--moves", default="", help="some of static,pan,zoom,shake,objects (default: all)"
    )
    sub.add_argument("--each", type=int, default=1, help="clips of a photograph")
    sub.add_argument(
        "--short_side", type=int, default=512, help="larger pictures are reduced to it"
    )
    sub.add_argument("--seconds", type=float, default=2.0, help="length of a clip")

    text = "Cut parts out of photographs, as further pictures."
    sub = command.add(commands, "parts", _parts, text, kept=command.RESUMES)
    text = "folder for the png files and scenes.json"
    command.add_output(sub, "--out", "folder", text, required=True)
    _add_photographs(sub)
    sub.add_argument("--each", type=int, default=1, help="parts of a photograph")
    sub.add_argument("--least", type=float, default=0.7, help="smallest share of a side, to 1")

    text = "Measure nine low-level metrics of every input."
    sub = command.add(commands, "metrics", _metrics, text, kept=command.RESUMES, takes_beam=True)
    sub.add_argument("--videos", required=True, help=_LISTING)
    command.add_output(sub, "--out", "file", "Parquet table to write", required=True)
    command.add_limits(sub)

    sub = command.add(commands, "select", _select, "Choose inputs by their metrics' histograms.")
    command.add_input(sub, "--metrics", "table of `metrics` to select from", required=True)
    text = "table of a target corpus, or JSON with histograms"
    command.add_input(sub, "--target", text, required=True)
    sub.add_argument("--num", type=int, required=True, help="videos to select")
    sub.add_argument("--quotas", default="", help="share of each source: name=share,name=share")
    command.add_output(sub, "--out", "file", "listing (.csv) to write", required=True)
    sub.add_argument("--seed", type=int, default=0, help="of the rounding")


def _add_photographs(sub: command.Parser) -> None:
    """Options of what is made of photographs."""
    sub.add_argument("--photographs", help="folder of jpg or png pictures beside the built-in ones")
    sub.add_argument("--excluded", help="text file: a name or SHA-256 a line that must not enter")
    sub.add_argument("--seed", type=int, default=0, help="of what is drawn")
    sub.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes")


def _scenes(args: argparse.Namespace) -> command.Result:
    from data_prep.scenes.made_files import MANIFEST
    from data_prep.scenes.scenes import SceneConfig, make_scenes

    try:
        width, height = (int(side) for side in args.size.lower().split("x"))
    except ValueError:
        args.parser.error(f"--size {args.size}: write it as 384x288")
    config = SceneConfig(args.num, args.seed, args.photos, width, height, args.seconds)
    make_scenes(config, args.out, args.workers)
    return f"scenes: {os.path.join(args.out, MANIFEST)}", 0


def _clips(args: argparse.Namespace) -> command.Result:
    from data_prep.scenes.content import MOVES, ClipConfig, make_clips
    from data_prep.scenes.made_files import MANIFEST

    config = ClipConfig(
        folder=args.photographs,
        excluded=args.excluded,
        moves=tuple(args.moves.split(",")) if args.moves else MOVES,
        each=args.each,
        seed=args.seed,
        short_side=args.short_side,
        seconds=args.seconds,
    )
    make_clips(config, args.out, args.workers)
    return f"clips: {os.path.join(args.out, MANIFEST)}", 0


def _parts(args: argparse.Namespace) -> command.Result:
    from data_prep.scenes.made_files import MANIFEST
    from data_prep.scenes.parts import PartConfig, make_parts

    config = PartConfig(args.photographs, args.excluded, args.each, args.least, args.seed)
    make_parts(config, args.out, args.workers)
    return f"parts: {os.path.join(args.out, MANIFEST)}", 0


def _metrics(args: argparse.Namespace) -> command.Result:
    from data_prep.selection import low_level_metrics

    with command.told_as_settings():
        limits = command.limits_of(args)
        rows, quarantined = low_level_metrics.measure_listing(
            args.videos, args.out, limits, args.beam
        )
    return f"{args.out}: {rows} rows, {quarantined} quarantined", 0


def _select(args: argparse.Namespace) -> command.Result:
    from data_prep.selection import select

    if args.num < 1:
        args.parser.error(f"--num {args.num}: give a number above 0")
    with command.told_as_settings():
        quotas = select.parse_quotas(args.quotas)
        text = select.select_listing(
            args.metrics, args.target, args.num, quotas, args.out, args.seed
        )
    return text, 0


# --- the corpus -----------------------------------------------------------------------------------


def _add_build(commands: Any) -> None:
    sub = command.add(
        commands,
        "build",
        _build,
        "Prepare a corpus from a listing of videos.",
        kept=command.RESUMES,
        takes_config=True,
        takes_beam=True,
    )
    sub.add_argument("--videos", required=True, help=_LISTING)
    command.add_output(sub, "--data", "folder", "corpus folder to write", required=True)

    text = "Hold other sources of a corpus out, and link its records."
    sub = command.add(commands, "split", _split, text)
    sub.add_argument("--data", required=True, help="corpus folder on this machine")
    command.add_output(sub, "--out", "folder", "corpus folder to write", required=True)
    text = "table of pictures: path, fold; sources of others are left out"
    command.add_input(sub, "--folds", text, required=True, metavar="OOF_CSV")
    sub.add_argument("--heldout", required=True, help="folds held out, with commas between")
    text = "of those held out, folds whose undistorted still pictures alone are kept"
    sub.add_argument("--plain", default="", help=text)
    text = "simulators that are not trained on, with commas between"
    sub.add_argument("--without", default="", help=text)


def _build(args: argparse.Namespace) -> command.Result:
    from data_prep.inputs import listing
    from data_prep.prepare import job
    from data_prep.prepare.config import PrepConfig

    with command.told_as_settings("--config: "):
        config = PrepConfig.from_dict(args.config.prep.to_dict())
    # Absolute: workers may have another current folder.
    videos = listing.absolute(args.videos)
    manifest = job.build(videos, os.path.abspath(args.data), config, args.beam)
    return f"corpus {args.data}: {manifest['counts']}", 0


def _split(args: argparse.Namespace) -> command.Result:
    from data_prep.prepare import resplit

    numbers = []
    for given in (args.heldout, args.plain):
        parts = [part for part in given.split(",") if part]
        if not all(part.isdigit() for part in parts):
            args.parser.error(f"{given}: write numbers of folds, as 8,9")
        numbers.append([int(part) for part in parts])
    heldout, plain = numbers
    without = [name for name in args.without.split(",") if name]
    manifest = resplit.resplit(args.data, args.out, args.folds, heldout, without, plain)
    return f"corpus {args.out}: {manifest['counts']}", 0


# --- labels ---------------------------------------------------------------------------------------


def _add_labels(commands: Any) -> None:
    text = "Label the first iteration's pairs."
    sub = command.add(commands, "pairs", _pairs, text, takes_config=True)
    command.add_output(sub, "--data", "folder", "corpus folder; gets the pairs", required=True)
    text = "further teachers' scores: CSV, Parquet or JSON lines; may be repeated"
    many = {"action": "append", "default": [], "metavar": "FILE"}
    command.add_input(sub, "--scores", text, **many)

    sub = command.add(
        commands,
        "human-listing",
        _human_listing,
        "List videos with human scores, split by content.",
        kept=command.RESUMES,
        takes_config=True,
        takes_beam=True,
    )
    sub.add_argument("--videos", required=True, help="folder of videos, anywhere below it")
    command.add_output(sub, "--out", "folder", "folder to write", required=True)
    command.add_input(sub, "--mos", _MOS, action="append", required=True)
    sub.add_argument(
        "--heldout", type=float, default=0.2, help="share of each set's contents that is held out"
    )

    text = "Label pairs by human scores."
    sub = command.add(commands, "human-pairs", _human_pairs, text, takes_config=True)
    command.add_output(sub, "--data", "folder", "corpus folder; gets the pairs", required=True)
    command.add_input(sub, "--mos", _MOS, action="append", required=True)


def _pairs(args: argparse.Namespace) -> command.Result:
    from data_prep.labels import pairs
    from data_prep.prepare.config import PairConfig

    with command.told_as_settings():
        config = PairConfig(**args.config.pairs.to_dict())
        manifest = pairs.label_pairs(args.data, config, args.scores)
    return f"pairs {manifest['counts']}, labels {manifest['labels']}", 0


def _human_listing(args: argparse.Namespace) -> command.Result:
    from data_prep.labels import human_listing
    from data_prep.prepare.config import PrepConfig

    with command.told_as_settings():
        config = PrepConfig.from_dict(args.config.prep.to_dict())
        counts = human_listing.make_listing(
            args.videos, args.mos, args.out, config, args.heldout, args.beam
        )
    return "\n".join(f"{name}: {count}" for name, count in counts.items()), 0


def _human_pairs(args: argparse.Namespace) -> command.Result:
    from data_prep.labels import human_pairs

    with command.told_as_settings():
        config = human_pairs.HumanConfig(**args.config.human.to_dict())
        manifest = human_pairs.label_pairs(args.data, config, args.mos)
    return f"pairs {manifest['counts']}, labels {manifest['labels']}", 0


# --- a check of everything ------------------------------------------------------------------------


def _add_verify(commands: Any) -> None:
    sub = command.add(commands, "verify", _verify, "Read and check a whole corpus.")
    command.add_input(sub, "data", "corpus folder", metavar="DIR")
    sub.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that read shards"
    )
    text = "PNG to draw; in the corpus folder by default"
    command.add_output(sub, "--contact_sheet", "file", text)


def _verify(args: argparse.Namespace) -> command.Result:
    from data_prep.verify.verify import verify
    from vqa_jax.jobs import places
    from vqa_jax.jobs.outputs import check_output

    if not args.contact_sheet and places.is_url(url := places.named(args.data)):
        return f"{url} is only read: name a file of yours by --contact_sheet", 2
    sheet = args.contact_sheet or os.path.join(args.data, "contact_sheet.png")
    if os.path.isdir(args.data):
        check_output(sheet, "file")
    summary = verify(args.data, max(1, args.workers), sheet)
    lines = [f"{args.data} is intact: {summary['counts']}"]
    lines += [f"pairs of iteration {k}: {labels}" for k, labels in summary["labels"].items()]
    return "\n".join(lines), 0


# --- what all of it costs -------------------------------------------------------------------------


def _add_costs(commands: Any) -> None:
    text = "Tell what the steps of a stage will cost, before they start."
    sub = command.add(commands, "costs", _costs, text, takes_config=True)
    sub.add_argument("--stage", type=int, default=1, help="1 or, on hard pairs, a later one")
    text = f"{_LISTING}; without it and without a corpus: the paper's amounts"
    sub.add_argument("--videos", help=text)
    sub.add_argument("--select", type=int, default=0, help="how many of them are selected; 0: all")
    text = "corpus folder: what it holds counts once it is"
    command.add_input(sub, "--data", text, default="")
    sub.add_argument("--teachers", default="", help="names of those that score, with commas")
    sub.add_argument("--step", help="one alone, in a sentence; nothing where there is no such step")


def _costs(args: argparse.Namespace) -> command.Result:
    from data_prep.costs import amounts, steps
    from data_prep.inputs import listing
    from data_prep.prepare.config import PairConfig, PrepConfig
    from vqa_jax.settings import RelabelConfig, TrainConfig

    config, listed, sample = args.config, 0, [amounts.TYPICAL]
    with command.told_as_settings("--config: "):
        prep = PrepConfig.from_dict(config.prep.to_dict())
        settings = (
            PairConfig(**config.pairs.to_dict()),
            RelabelConfig(**config.relabel.to_dict()),
            TrainConfig.from_dict(config.train.to_dict()),
        )
    found = amounts.counted(args.data) if args.data else None
    if found is None and args.videos is None:
        listed, found = amounts.PAPER_LISTED, amounts.planned(prep, amounts.paper_inputs(prep))
    if args.videos is not None:
        entries = listing.read_listing(args.videos, prep.stills)
        listed = len(entries) if args.select else 0
        if found is None:  # else the files have been seen already
            sample = amounts.sampled(entries)
            found = amounts.planned(prep, args.select or len(entries), sample)
    teachers = [name for name in args.teachers.split(",") if name]
    run = steps.Run(config.student, prep, *settings, found, sample, listed, teachers)
    costs = steps.of_stage(run, args.stage)
    if args.step is None:
        return steps.table(costs), 0
    return "\n".join(steps.line(cost) for cost in costs if cost.step == args.step), 0
