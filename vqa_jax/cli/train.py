"""Commands that make a student: motion, train, plan."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from vqa_jax.cli.command import SettingsError, _say


def _run_of(config: Any, extractor: Callable[[Any], str]) -> tuple[Any, Any]:
    """(TrainConfig, StudentSpec) of a configuration; `extractor`: Preprocess -> fingerprint."""
    from vqa_jax import settings as settings_lib
    from vqa_jax.media.preprocess import Preprocess
    from vqa_jax.training.input_pipeline import MAX_LEVEL
    from vqa_jax.weights import bundle

    try:
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
        )
    except (TypeError, ValueError) as error:
        raise SettingsError(f"--config: {error}") from error
    return settings, spec


def _train(args: argparse.Namespace) -> int:
    from vqa_jax.devices import hosts
    from vqa_jax.motion import extractor as motion
    from vqa_jax.training import train

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
    from vqa_jax.devices import sharding, topology
    from vqa_jax.planning import plan
    from vqa_jax.planning import text as plan_text

    chips = topology.open_topology(args.topology)
    settings, spec = _run_of(args.config, lambda _: "")
    try:
        sizes = [int(size) for size in args.mesh.split(",")] if args.mesh else settings.mesh
        mesh = sharding.make_mesh(sizes, chips.devices)
        plans = plan.plan_run(settings, spec, chips, mesh, args.steps, args.pairs, args.tokens)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    shape = tuple(mesh.shape.values())
    if args.json:
        _say(json.dumps(plan_text.as_dict(plans, chips, shape), indent=1))
    else:
        _say(plan_text.render(plans, chips, shape))
    return 0 if all(p.memory.spare is None or p.memory.spare >= 0 for p in plans) else 1


def _motion(args: argparse.Namespace) -> int:
    import jax

    from vqa_jax.motion import extractor as motion
    from vqa_jax.motion import job

    extractor = motion.load(args.extractor, args.batch_size, jax.local_devices())
    found = job.run(
        args.data,
        extractor,
        process=args.process,
        processes=args.processes,
        delete_clips=args.delete_clips,
    )
    left = f"; {found.missing} shards are left to other processes" if found.missing else ""
    _say(f"motion features of {found.videos} videos in {args.data}{left}")
    return 0
