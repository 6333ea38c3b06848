"""Commands that make a student: `motion`, `tokens`, `train`, `plan`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from vqa_jax.cli import command
from vqa_jax.settings import KEPT_DTYPES, SCORING_DTYPES


def add(commands: Any) -> None:
    """Adds the commands to argparse's sub-commands."""
    sub = command.add(
        commands, "motion", _motion, "Compute motion features of a corpus.", kept=command.RESUMES
    )
    command.add_output(sub, "--data", "folder", "corpus folder; gets the features", required=True)
    text = "SlowFast safetensors (default: shipped)"
    command.add_input(sub, "--extractor", text, default="")
    sub.add_argument("--batch_size", type=int, default=16, help="clips at once, a device")
    command.add_shares(sub)
    sub.add_argument("--delete_clips", action="store_true", help="remove clips, once checked")

    sub = command.add(
        commands,
        "tokens",
        _tokens,
        "Compute a frozen tower's tokens of a corpus.",
        kept=command.RESUMES,
        takes_config=True,
    )
    command.add_output(sub, "--data", "folder", "corpus folder; gets the tokens", required=True)
    command.add_shares(sub)

    sub = command.add(
        commands,
        "train",
        _train,
        "Train a student.",
        kept="what is saved in {workdir} stays; the same command goes on from there",
        takes_config=True,
    )
    command.add_input(sub, "--data", "corpus folder", required=True)
    text = "folder for checkpoints, metrics and the student"
    command.add_output(sub, "--workdir", "folder", text, required=True)
    sub.add_argument(
        "--coordinator", help="HOST:PORT of process 0, or 'auto' on Slurm, TPU pods and GKE"
    )
    sub.add_argument("--num_processes", type=int, help="how many processes train together")
    sub.add_argument("--process", type=int, help="number of this one, from 0")
    sub.add_argument(
        "--host_timeout", type=int, default=100, help="seconds after which a process counts as lost"
    )
    sub.add_argument("--profile", metavar="STEPS", help="trace these steps, as 10-15")

    sub = command.add(
        commands, "plan", _plan, "What a run takes on chips not at hand.", takes_config=True
    )
    sub.add_argument("--topology", required=True, help="the chips, as v5e:4x4, v6e-256 or h100:8*4")
    text = (
        "data,fsdp,tensor; -1 takes what is left (default: config's; of --steps score, scoring's)"
    )
    sub.add_argument("--mesh", help=text)
    sub.add_argument(
        "--dtype", choices=SCORING_DTYPES, help="of the student that scores (default: its own)"
    )
    text = "of its anchors' keys and values (default: the arithmetic's)"
    sub.add_argument("--cache_dtype", choices=KEPT_DTYPES, help=text)
    sub.add_argument("--steps", choices=("train", "score", "all"), default="all")
    sub.add_argument(
        "--pairs",
        type=int,
        help="global batch (default: config's, rounded up; of --search: it chooses)",
    )
    sub.add_argument("--tokens", type=int, help="pad sequences to this length")
    text = (
        "estimate all meshes, batches, recomputations, kernels of attention and parts, and compile "
        "the best three; of GPUs and of --steps score there are estimates alone"
    )
    sub.add_argument("--search", action="store_true", help=text)
    text = "plain values instead of text; to the terminal without FILE"
    command.add_output(sub, "--json", "text", text, nargs="?", const="-", metavar="FILE")


def _motion(args: argparse.Namespace) -> command.Result:
    import jax

    from vqa_jax.motion import extractor as motion
    from vqa_jax.motion import job

    extractor = motion.load_extractor(args.extractor, args.batch_size, jax.local_devices())
    found = job.run(
        args.data,
        extractor,
        process=args.process,
        processes=args.processes,
        delete_clips=args.delete_clips,
    )
    left = f"; {found.missing} shards are left to other processes" if found.missing else ""
    return f"motion features of {found.videos} videos in {args.data}{left}", 0


def _tokens(args: argparse.Namespace) -> command.Result:
    from vqa_jax.training import tower_tokens

    _, spec = run_of(args.config, lambda _: "")
    shared = {"process": args.process, "processes": args.processes}
    found = tower_tokens.run(args.data, spec, args.config.tower, **shared)
    left = f"; {found.missing} shards are left to other processes" if found.missing else ""
    return f"tokens of {found.videos} videos in {args.data}{left}", 0


def run_of(config: Any, extractor: Callable[[Any], str]) -> tuple[Any, Any]:
    """(TrainConfig, StudentSpec) of a configuration; `extractor`: Preprocess -> fingerprint."""
    from vqa_jax import settings as settings_lib
    from vqa_jax.media.preprocess import Preprocess
    from vqa_jax.training.examples import MAX_LEVEL
    from vqa_jax.weights import bundle

    with command.told_as_settings("--config: "):
        settings = settings_lib.TrainConfig.from_dict(config.train.to_dict())
        severity = config.severity_simulators if settings.severity_weight else ()
        preprocess = Preprocess(**config.prep.preprocess.to_dict())
        spec = bundle.make_spec(
            config.student,
            preprocess,
            settings.input.num_frames,
            extractor(preprocess),
            tuple(severity),
            MAX_LEVEL,
            config.tower,
        )
    return settings, spec


def _train(args: argparse.Namespace) -> command.Result:
    from vqa_jax.devices import hosts
    from vqa_jax.motion import extractor as motion
    from vqa_jax.training import train
    from vqa_jax.weights import companions

    profile = _span_of(args.profile)
    hosts.connect(args.coordinator, args.num_processes, args.process, args.host_timeout)
    start = args.config.train.init_from
    weights = args.config.extractor or (start and companions.motion_beside(start)) or ""
    extractor = motion.load_extractor(weights)
    settings, spec = run_of(args.config, extractor.fingerprint)
    if extractor.motion_dim != spec.student.motion_dim:
        raise command.SettingsError(
            f"{spec.preset} takes {spec.student.motion_dim} motion features a clip, "
            f"{weights or 'the shipped extractor'} gives {extractor.motion_dim}: name a converted"
            " SlowFast-R50 (--config.extractor=FILE), or put it beside the student of init_from as"
            f" {companions.MOTION_FILE}"
        )
    student = train.train(settings, spec, args.data, args.workdir, profile, weights)
    return student or f"told to end: saved in {args.workdir}; the same command resumes", 0


def _span_of(steps: str | None) -> tuple[int, int] | None:
    """(10, 15) of "10-15"."""
    if steps is None:
        return None
    first, _, last = steps.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last)):
        raise command.SettingsError(f"--profile {steps!r}: write FIRST-LAST, as 10-15")
    return int(first), int(last)


def _plan(args: argparse.Namespace) -> command.Result:
    from vqa_jax.devices import sharding, topology
    from vqa_jax.planning import plan, scoring
    from vqa_jax.planning import text as plan_text

    chips = topology.open_topology(args.topology)
    settings, spec = run_of(args.config, lambda _: "")
    if args.search:
        return _search(args, chips, settings, spec)
    with command.told_as_settings():
        if args.mesh or args.steps != "score":
            sizes = [int(size) for size in args.mesh.split(",")] if args.mesh else settings.mesh
            mesh = sharding.make_mesh(sizes, chips.devices, settings.context)
        else:
            mesh = scoring.scoring_mesh(spec, chips, args.dtype, args.cache_dtype)
        asked = args.steps, args.pairs, args.tokens, args.dtype, args.cache_dtype
        plans = plan.plan_run(settings, spec, chips, mesh, *asked)
    fits = all(p.memory.spare is None or p.memory.spare >= 0 for p in plans)
    return _told(args, plan_text, (plans, chips, tuple(mesh.shape.values())), fits)


def _search(args: argparse.Namespace, chips: Any, settings: Any, spec: Any) -> command.Result:
    from vqa_jax.planning import scoring, scoring_search, search

    if args.mesh:
        raise command.SettingsError("--search chooses the mesh: leave --mesh out")
    if args.steps == "score":
        student = scoring.scoring_config(spec.student, args.dtype)
        rates = scoring_search.estimates(student, spec, chips, args.cache_dtype)
        return _told(args, scoring_search, (rates, chips), rates[0].memory <= chips.chip.memory)
    with command.told_as_settings():
        found = search.Search.of(settings, spec, chips, args.pairs, args.tokens).best()
    return _told(args, search, (found, chips), found.fits(chips))


def _told(
    args: argparse.Namespace, page: Any, found: tuple[Any, ...], fits: bool
) -> command.Result:
    """What a module of the planner says of its findings, as text or as values in a file."""
    from vqa_jax.jobs.files import write_json

    if not args.json:
        return page.render(*found), 0 if fits else 1
    write_json(args.json, page.as_dict(*found))
    return 0 if fits else 1
