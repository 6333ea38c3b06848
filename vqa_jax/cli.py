"""Command line: `python -m vqa_jax COMMAND`; `--help` lists the commands.

JAX and the models are imported by the command that needs them, so that help and mistakes are fast.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from vqa_jax import anchors_cli, benchmark_cli, export_cli, score_cli, teachers_cli

_LEFT = "this process has done its part; the rest is left to other processes"


class SettingsError(Exception):
    """Settings that do not fit each other."""


def _read_config(arguments: Sequence[str]) -> Any:
    """The ml_collections config named by --config, with --config.a.b=value overrides."""
    from ml_collections import config_flags

    argv = ["vqa_jax", *map(_with_folder, arguments)]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "Run configuration.", flag_values=values, sys_argv=argv
    )
    values(argv)
    values.config.keys()  # a file that could not be loaded says so here, not somewhere later
    return values.config


def _with_folder(argument: str) -> str:
    """A configuration named without folder and ending, as "ov_7b:paper", is one of configs/."""
    option, equals, value = argument.rpartition("=")
    name, colon, detail = value.partition(":")
    if option not in ("", "--config") or not name.isidentifier():
        return argument
    return f"{option}{equals}configs/{name}.py{colon}{detail}"


def _say(text: str) -> None:
    # File names may be bytes that are no text.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def _load(folder: str | None) -> Any:
    from vqa_jax import predictor

    return predictor.load(folder)


def _timeline(args: argparse.Namespace) -> int:
    from vqa_jax import timeline
    from vqa_jax.report import timeline as page

    try:
        found = timeline.run(_load(args.student), args.video, args.out, args.window, args.stride)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    page.write(found, args.out)
    _say(page.render(found, args.out))
    return 0 if any(m.error is None for m in found.moments) else 1


def _run_of(config: Any, extractor: Callable[[Any], str]) -> tuple[Any, Any]:
    """(TrainConfig, StudentSpec) of a configuration; `extractor`: Preprocess -> fingerprint."""
    from vqa_jax import bundle, train
    from vqa_jax.frames import Preprocess
    from vqa_jax.input_pipeline import MAX_LEVEL

    try:
        settings = train.TrainConfig.from_dict(config.train.to_dict())
        severity = config.severity_simulators if settings.severity_weight else ()
        preprocess = Preprocess(**config.prep.preprocess.to_dict())
        spec = bundle.make_spec(
            config.student,
            preprocess,
            settings.input.num_frames,
            extractor(preprocess),
            tuple(severity),
            MAX_LEVEL,
        )
    except (TypeError, ValueError) as error:
        raise SettingsError(f"--config: {error}") from error
    return settings, spec


def _train(args: argparse.Namespace) -> int:
    from vqa_jax import hosts, motion, train

    profile = _span_of(args.profile)
    hosts.connect(args.coordinator, args.num_processes, args.process, args.host_timeout)
    settings, spec = _run_of(args.config, motion.load(args.config.extractor).fingerprint)
    student = train.train(settings, spec, args.data, args.workdir, profile)
    _say(student or f"told to end: saved in {args.workdir}; the same command resumes")
    return 0


def _span_of(steps: str | None) -> tuple[int, int] | None:
    """(10, 15) of "10-15"."""
    if steps is None:
        return None
    first, _, last = steps.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
        raise SettingsError(f"--profile {steps!r}: write FIRST-LAST, as 10-15")
    return int(first), int(last)


def _plan(args: argparse.Namespace) -> int:
    from vqa_jax import parallel, plan, plan_text, topology

    chips = topology.open_topology(args.topology)
    settings, spec = _run_of(args.config, lambda _: "")
    try:
        sizes = [int(size) for size in args.mesh.split(",")] if args.mesh else settings.mesh
        mesh = parallel.make_mesh(sizes, chips.devices)
        plans = plan.plan_run(settings, spec, chips, mesh, args.steps, args.pairs, args.tokens)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    shape = tuple(mesh.shape.values())
    if args.json:
        _say(json.dumps(plan_text.as_dict(plans, chips, shape), indent=1))
    else:
        _say(plan_text.render(plans, chips, shape))
    return 0 if all(p.memory.spare is None or p.memory.spare >= 0 for p in plans) else 1


def _convert(args: argparse.Namespace) -> int:
    from vqa_jax import convert

    try:
        found = convert.convert(
            args.sources,
            args.to,
            preset=args.preset,
            dtype=args.dtype,
            scratch=args.scratch,
            seed=args.seed,
            extractor=args.extractor,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    _say(found)
    return 0


def _motion(args: argparse.Namespace) -> int:
    import jax

    from vqa_jax import motion, motion_job

    extractor = motion.load(args.extractor, args.batch_size, jax.local_devices())
    found = motion_job.run(
        args.data,
        extractor,
        process=args.process,
        processes=args.processes,
        delete_clips=args.delete_clips,
    )
    left = f"; {found.missing} shards are left to other processes" if found.missing else ""
    _say(f"motion features of {found.videos} videos in {args.data}{left}")
    return 0


def _anchors(args: argparse.Namespace) -> int:
    from vqa_jax import anchor_choice

    _say(anchor_choice.make_anchors(_load(args.student), args.student, args.data))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from vqa_jax import evaluate, work_ranges
    from vqa_jax.report import run as report

    share = work_ranges.Share(args.process, args.processes)
    student = _load(args.student)
    found = evaluate.evaluate(
        student.engine, student.scale, student.fingerprint, args.data, args.out, share
    )
    _say(report.evaluation_table(found) if found else _LEFT)
    return 0


def _relabel(args: argparse.Namespace) -> int:
    from vqa_jax import relabel, work_ranges
    from vqa_jax.report import relabelling

    share = work_ranges.Share(args.process, args.processes)
    try:
        settings = relabel.RelabelConfig(**args.config.relabel.to_dict())
    except (TypeError, ValueError) as error:
        raise SettingsError(f"--config: {error}") from error
    student = _load(args.student)
    facts = relabel.relabel(
        student.engine,
        student.scale,
        student.fingerprint,
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


def _run(args: argparse.Namespace) -> int:
    text, status = args.run(args)
    _say(text)
    return status


def _report(args: argparse.Namespace) -> int:
    from vqa_jax.report import run as report

    path = report.build_report(args.run)
    _say(report.summary_table(args.run))
    _say(f"report: {path}")
    return 0


def _shared(command: argparse.ArgumentParser) -> None:
    command.add_argument("--processes", type=int, default=1, help="how many share the work")
    command.add_argument("--process", type=int, default=0, help="number of this one, from 0")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vqa_jax", description="Video quality from ranked pairs.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, handler: Any, text: str, *required: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(handler=handler)
        for option in required:
            sub.add_argument(f"--{option}", required=True)
        return sub

    score_cli.add(commands, _run)
    sub = command("timeline", _timeline, "Score a video's passages, show the worst.", "out")
    sub.add_argument("video", metavar="VIDEO")
    sub.add_argument("--student", help="student's folder (default: the shipped tiny one)")
    sub.add_argument("--window", type=float, default=2.0, help="seconds of a passage")
    sub.add_argument("--stride", type=float, default=1.0, help="seconds between passages' starts")
    sub = command("train", _train, "Train a student (--config FILE).", "data", "workdir")
    sub.add_argument(
        "--coordinator", help="HOST:PORT of process 0, or 'auto' on Slurm, TPU pods and GKE"
    )
    sub.add_argument("--num_processes", type=int, help="how many processes train together")
    sub.add_argument("--process", type=int, help="number of this one, from 0")
    sub.add_argument(
        "--host_timeout", type=int, default=100, help="seconds after which a process counts as lost"
    )
    sub.add_argument("--profile", metavar="STEPS", help="trace these steps, as 10-15")
    sub = command("convert", _convert, "Turn published weights into a student's folder.", "to")
    sub.add_argument(
        "--from",
        dest="sources",
        action="append",
        required=True,
        metavar="PATH",
        help="safetensors folder or file; may be repeated for parts, as SigLIP and Qwen2",
    )
    sub.add_argument("--preset", default="", help="sizes by name (default: from config.json)")
    sub.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    sub.add_argument(
        "--scratch",
        action="append",
        default=[],
        metavar="PART",
        help="part that the files lack and that starts from random numbers; may be repeated",
    )
    sub.add_argument("--seed", type=int, default=0, help="of those parts")
    sub.add_argument("--extractor", default="", help="SlowFast safetensors to put beside it")
    sub = command("motion", _motion, "Compute motion features of a corpus.", "data")
    sub.add_argument("--extractor", default="", help="SlowFast safetensors (default: shipped)")
    sub.add_argument("--batch_size", type=int, default=16, help="clips at once, a device")
    _shared(sub)
    sub.add_argument("--delete_clips", action="store_true", help="remove clips, once checked")
    command("anchors", _anchors, "Choose a student's anchors.", "student", "data")
    sub = command("evaluate", _evaluate, "Evaluate on held-out sources.", "student", "data", "out")
    _shared(sub)
    sub = command(
        "relabel", _relabel, "Write the next iteration's pairs (--config FILE).", "student", "data"
    )
    _shared(sub)
    sub.add_argument("--iteration", type=int, required=True)
    sub.add_argument(
        "--scores",
        action="append",
        default=[],
        help="further teachers' scores: CSV, Parquet or JSON lines; may be repeated",
    )
    command("report", _report, "Write report.html of a run.", "run")
    anchors_cli.add(commands, _run)
    teachers_cli.add(commands, _run)
    benchmark_cli.add(commands, _run)
    export_cli.add(commands, _run)
    sub = command(
        "plan", _plan, "What a run takes on chips not at hand (--config FILE).", "topology"
    )
    sub.add_argument("--mesh", help="data,fsdp,tensor; -1 takes what is left (default: config's)")
    sub.add_argument("--steps", choices=("train", "score", "all"), default="all")
    sub.add_argument("--pairs", type=int, help="global batch (default: config's, rounded up)")
    sub.add_argument("--tokens", type=int, help="pad sequences to this length")
    sub.add_argument("--json", action="store_true", help="plain values instead of text")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Known errors are one line, not a traceback."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    configured = [a for a in rest if a.startswith("--config")]
    # "--config FILE" leaves FILE among the unknown ones.
    after = [b for a, b in itertools.pairwise(rest) if a == "--config"]
    unknown = [a for a in rest if a not in configured and a not in after]
    if unknown:
        parser.error(f"unknown arguments: {' '.join(unknown)}")
    needs_config = args.command in ("train", "relabel", "plan")
    if needs_config != bool(configured):
        parser.error(f"{args.command} {'needs' if needs_config else 'takes no'} --config")
    if configured:
        try:
            args.config = _read_config([a for a in rest if a in configured or a in after])
        except (flags.Error, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
            parser.error(f"--config: {' '.join(str(error).split())}")
    logging.set_verbosity(os.environ.get("VQA_JAX_LOG", "info"))
    # Orbax tells every step of a save at the level of our own messages.
    logging.get_absl_logger().addFilter(
        lambda record: record.levelname != "INFO" or "orbax" not in record.pathname
    )
    try:
        return int(args.handler(args))
    except _known_errors() as error:
        sys.stderr.write(f"vqa_jax {args.command}: {error}\n")
        return 1


def _known_errors() -> tuple[type[Exception], ...]:
    from vqa_jax.anchors import AnchorError
    from vqa_jax.benchmark_labels import LabelsError
    from vqa_jax.benchmarks import BenchmarkError
    from vqa_jax.bundle import BundleError
    from vqa_jax.checkpoint import CheckpointError
    from vqa_jax.exported import ExportError
    from vqa_jax.files import CorpusError
    from vqa_jax.frames import MediaError
    from vqa_jax.hosts import HostsError
    from vqa_jax.score_tables import ScoresError
    from vqa_jax.teacher_registry import TeacherError
    from vqa_jax.topology import TopologyError
    from vqa_jax.train import TrainingError
    from vqa_jax.weights.files import WeightsError

    return (
        AnchorError,
        BenchmarkError,
        BundleError,
        CheckpointError,
        CorpusError,
        ExportError,
        HostsError,
        LabelsError,
        MediaError,
        ScoresError,
        SettingsError,
        TopologyError,
        TeacherError,
        TrainingError,
        WeightsError,
        FileNotFoundError,
    )
