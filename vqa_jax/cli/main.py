"""Command line: `python -m vqa_jax COMMAND`; `--help` lists the commands.

JAX and the models are imported by the command that needs them, so that help and mistakes are fast.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from vqa_jax.cli import anchors, benchmark, exchange, score, teachers
from vqa_jax.cli.anchors import _anchors
from vqa_jax.cli.command import SettingsError, _read_config, _run, _shared
from vqa_jax.cli.exchange import _convert
from vqa_jax.cli.loop import _evaluate, _relabel, _report
from vqa_jax.cli.score import _timeline
from vqa_jax.cli.train import _motion, _plan, _train


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vqa_jax", description="Video quality from ranked pairs.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, handler: Any, text: str, *required: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(handler=handler)
        for option in required:
            sub.add_argument(f"--{option}", required=True)
        return sub

    score.add(commands, _run)
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
    anchors.add(commands, _run)
    teachers.add(commands, _run)
    benchmark.add(commands, _run)
    exchange.add(commands, _run)
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
    from vqa_jax.benchmarks.labels import LabelsError
    from vqa_jax.benchmarks.score_tables import ScoresError
    from vqa_jax.benchmarks.sets import BenchmarkError
    from vqa_jax.devices.hosts import HostsError
    from vqa_jax.devices.topology import TopologyError
    from vqa_jax.exchange.exported import ExportError
    from vqa_jax.jobs.files import CorpusError
    from vqa_jax.media.container import MediaError
    from vqa_jax.scoring.anchors import AnchorError
    from vqa_jax.teachers.cards import TeacherError
    from vqa_jax.training.checkpoint import CheckpointError
    from vqa_jax.training.train import TrainingError
    from vqa_jax.weights.bundle import BundleError
    from vqa_jax.weights.reader import WeightsError

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
