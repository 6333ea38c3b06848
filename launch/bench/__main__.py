"""Measures what a stage costs on this machine.

    python launch/bench prep [--videos DIR] [--height 720] [--simulators spatial] [--out FILE.json]
    python launch/bench memory --video FILE [--seconds 10] [--simulators spatial h264]
    python launch/bench map [--num 1000000] [--out FILE.json]
    python launch/bench loader [--data CORPUS | --videos DIR] [--steps 110] [--out FILE.json]
    python launch/bench scoring [--repeats 30] [--out FILE.json]
    python launch/bench adaptive --data CORPUS [--epsilon 0.12] [--out FILE.json]
    python launch/bench versions --videos DIR --work DIR [--student tiny] [--out FILE.json]
    python launch/bench many [--student tiny] [--num 5000] [--out FILE.json]
    python launch/bench precision --data CORPUS [--student tiny] [--out FILE.json]
    python launch/bench service [--student tiny] [--num 2000] [--at_once 32] [--out FILE.json]
    python launch/bench gmad [--videos 200000] [--models 6] [--out FILE.json]
    python launch/bench compiled [--only "v5e:8x8 paper"] [--out tests/launch/compiled_7b.json]
    python launch/bench published [--out FILE.json]

Figures of one run belong together; between runs and machines compare ratios, not seconds.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _prep(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import prep

    made = args.num, args.height, args.seconds
    found = prep.measure(args.videos, *made, args.config, args.simulators, args.preset)
    return found, prep.table(found)


def _memory(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import memory

    found = memory.measure(args.video, args.seconds, args.simulators, args.config, args.preset)
    return found, memory.table(found)


def _map(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import thurstone

    found = thurstone.measure(args.num, args.seed)
    return found, thurstone.table(found)


def _loader(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import loader

    found = loader.measure(args.data, args.videos, args.num, args.config, args.steps)
    return found, loader.table(found)


def _gmad(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import gmad

    found = gmad.measure(args.videos, args.models, args.quota)
    return found, gmad.table(found)


def _scoring(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import scoring

    found = scoring.measure(args.student, args.repeats, args.seed)
    return found, scoring.table(found)


def _service(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import service

    found = service.measure(args.student, args.num, args.at_once, args.seed)
    return found, service.table(found)


def _many(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import many

    found = many.measure(args.student, args.num)
    return found, many.table(found)


def _versions(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import versions

    how = args.codec.split(","), args.crf, args.length, args.poor
    found = versions.measure(args.student, args.videos, args.work, *how)
    return found, versions.table(found)


def _adaptive(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import adaptive

    found = adaptive.measure(args.student, args.data, args.epsilon)
    return found, adaptive.table(found)


def _compiled(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import compiled

    found = compiled.measure(args.only)
    return found, compiled.table(found)


def _precision(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import precision

    found = precision.measure(args.student, args.data, args.num)
    return found, precision.table(found)


def _published(args: argparse.Namespace) -> tuple[dict, str]:
    from launch.bench import published

    found = published.measure()
    return found, published.table(found)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one sub-command; prints its table and writes all figures as JSON if asked."""
    parser = argparse.ArgumentParser(prog="launch/bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("prep", help="preparation: decode, resize, distort, encode, write")
    sub.set_defaults(handler=_prep)
    sub.add_argument("--videos", help="folder of videos (default: scenes are made)")
    sub.add_argument("--num", type=int, default=3, help="videos used, or made")
    sub.add_argument("--height", type=int, default=288, help="lines of the scenes that are made")
    sub.add_argument("--seconds", type=float, default=3.2, help="length of those scenes")
    sub.add_argument("--config", default="quickstart", help="settings to prepare with")
    sub.add_argument("--simulators", nargs="+", default=[], help="all on every source")
    sub.add_argument("--preset", default="", help="of H.265")
    sub = commands.add_parser("memory", help="preparation of one video: a worker and its child")
    sub.set_defaults(handler=_memory)
    sub.add_argument("--video", required=True, help="a file")
    sub.add_argument("--seconds", type=float, default=10.0, help="length of the segment")
    sub.add_argument("--simulators", nargs="+", default=["gaussian_blur", "stutter", "h264"])
    sub.add_argument("--config", default="paper", help="settings to prepare with")
    sub.add_argument("--preset", default="ultrafast", help="of H.265")
    sub = commands.add_parser("map", help="comparisons to scores: six-by-six Thurstone problems")
    sub.set_defaults(handler=_map)
    sub.add_argument("--num", type=int, default=1_000_000, help="problems")
    sub.add_argument("--seed", type=int, default=0, help="of their making")
    sub = commands.add_parser("loader", help="pairs that are read beside those trained on")
    sub.set_defaults(handler=_loader)
    sub.add_argument("--data", help="prepared corpus with pairs (default: one is made)")
    sub.add_argument("--videos", help="folder of videos to make it of (default: scenes are made)")
    sub.add_argument("--num", type=int, default=6, help="scenes that are made")
    sub.add_argument("--config", default="quickstart", help="settings of both")
    sub.add_argument("--steps", type=int, default=110, help="trained; the first 10 do not count")
    sub = commands.add_parser("gmad", help="gMAD of a student against weak models, both roles")
    sub.set_defaults(handler=_gmad)
    sub.add_argument("--videos", type=int, default=200_000, help="videos in the pool")
    sub.add_argument("--models", type=int, default=6, help="the student and the weak ones")
    sub.add_argument("--quota", type=int, default=85_000, help="pairs wanted in all")
    sub = commands.add_parser("scoring", help="the engine against five full passes")
    sub.set_defaults(handler=_scoring)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--repeats", type=int, default=30, help="videos that are scored both ways")
    sub.add_argument("--seed", type=int, default=0, help="of the videos")
    sub = commands.add_parser("service", help="the web service under good and bad requests")
    sub.set_defaults(handler=_service)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--num", type=int, default=2000, help="requests")
    sub.add_argument("--at_once", type=int, default=32, help="requests under way")
    sub.add_argument("--seed", type=int, default=0, help="of their order")
    sub = commands.add_parser("many", help="memory of score over thousands of files")
    sub.set_defaults(handler=_many)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--num", type=int, default=5000, help="files, which are made")
    sub = commands.add_parser("versions", help="ladders of clips, and clips beside poor copies")
    sub.set_defaults(handler=_versions)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--videos", required=True, help="folder of clips")
    sub.add_argument("--work", required=True, help="ladders and encodes; used again")
    sub.add_argument("--codec", default="x264,x265,svtav1", help="copies are by the first two")
    sub.add_argument("--crf", default="18:50:4", help="of the ladders")
    sub.add_argument("--length", type=float, default=2.0, help="seconds of a clip in its ladder")
    sub.add_argument("--poor", type=float, default=46, help="CRF of the copies")
    sub = commands.add_parser("adaptive", help="what fewer comparisons with anchors give and cost")
    sub.set_defaults(handler=_adaptive)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--data", required=True, help="corpus of sources that it was not trained on")
    sub.add_argument("--epsilon", type=float, nargs="+", default=[0.12], help="stopping rules")
    sub = commands.add_parser("compiled", help="what XLA makes of 7B's steps for TPUs")
    sub.set_defaults(handler=_compiled)
    sub.add_argument("--only", nargs="+", default=[], help="rows that are made anew")
    sub = commands.add_parser("precision", help="bfloat16 and int8 beside float32")
    sub.set_defaults(handler=_precision)
    sub.add_argument("--student", help="student's folder, or the name of a shipped one")
    sub.add_argument("--data", required=True, help="corpus of sources that it was not trained on")
    sub.add_argument("--num", type=int, default=400, help="versions asked about")
    sub = commands.add_parser("published", help="the planner beside a text model's published MFU")
    sub.set_defaults(handler=_published)
    for sub in commands.choices.values():
        sub.add_argument("--out", help="JSON file of all figures")
    args = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))  # a script's own folder is on the path, the project is not
    from vqa_jax.jobs import files

    found, text = args.handler(args)
    if args.out:
        files.write_json(args.out, found)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
