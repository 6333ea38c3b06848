"""Encodes of real clips: ladders in several codecs, and each clip beside its poor copies."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqa_jax import encodes, loading
from vqa_jax.cli import main as commands
from vqa_jax.jobs.files import read_json
from vqa_jax.media.find import find_videos
from vqa_jax.media.probe import VideoInfo, probe
from vqa_jax.scoring.predictor import Predictor
from vqa_jax.settings import DEFAULT_LIMITS

_TOLD = "ladder.json"


def measure(
    student: str | None,
    videos: str,
    work: str,
    codecs: Sequence[str],
    crf: str,
    length: float,
    poor: float,
) -> dict[str, Any]:
    """Runs `ladder` on the beginning of every clip, and compares whole clips with poor copies.

    Args:
      student: folder or name; None: the shipped one.
      videos: folder of clips.
      work: a folder a clip, with what `ladder --out` writes; a ladder that this student made there
        with the same encodes is not made again.
      codecs: names of encoders, see `encodes.ENCODERS`; the copies are by the first two.
      crf: of the ladders, see `encodes.crfs`.
      length: seconds of a clip that a ladder is about.
      poor: CRF of the copies.

    Returns:
      {"machine", "model", "clips", "seconds", "steps": codec -> {"right", "tie", "wrong"} of
      neighbouring bitrates, "bd_rates": measure -> codec -> other codec -> {"mean" of the share of
      bits that the other needs more, "fewer": clips where it needs fewer, "clips"}, "agreement":
      measure -> {"mean", "lowest"}, "copies": codec -> {"preferred": clips whose original is
      preferred, "both": in either order, "clips"}}.
    """
    paths = find_videos([videos])
    predictor = loading.load(student)
    made = [
        _ladder(path, student, predictor.fingerprint, work, codecs, crf, length) for path in paths
    ]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "model": predictor.fingerprint,
        "clips": len(paths),
        "seconds": length,
        **_summed(made),
        "copies": {codec: _copies(predictor, paths, work, codec, poor) for codec in codecs[:2]},
    }


def _ladder(
    path: str,
    student: str | None,
    fingerprint: str,
    work: str,
    codecs: Sequence[str],
    crf: str,
    length: float,
) -> dict[str, Any]:
    """What `ladder --json` says of the beginning of a clip."""
    folder = os.path.join(work, os.path.splitext(os.path.basename(path))[0])
    told = os.path.join(folder, _TOLD)
    wanted = {f"{codec} {value:g}" for codec in codecs for value in encodes.crfs(crf)}
    if os.path.exists(told):
        found = read_json(told)
        names = {rung["encode"]["name"] for rung in found["rungs"]}
        if found["model"] == fingerprint and names == wanted:
            return found
    command = ["ladder", path, "--codec", ",".join(codecs), "--crf", crf, "--length", str(length)]
    command += ["--out", folder, "--quiet"] + (["--student", student] if student else [])
    if status := commands.main(command):
        raise RuntimeError(f"{' '.join(command)}: exit status {status}")
    return read_json(told)


def _summed(ladders: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over clips of what each ladder says."""
    steps: dict[str, Counter[str]] = {}
    saved: dict[str, dict[str, dict[str, list[float]]]] = {}
    agreement: dict[str, list[float]] = {}
    for found in ladders:
        codec_of = {r["encode"]["name"]: r["encode"]["codec"] for r in found["rungs"]}
        for step in found["steps"]:
            steps.setdefault(codec_of[step["dearer"]], Counter())[step["order"]] += 1
        for measure, rows in found["bd_rates"].items():
            for one, others in rows.items():
                for other, share in others.items():
                    kept = saved.setdefault(measure, {}).setdefault(one, {}).setdefault(other, [])
                    kept += [share] if share is not None else []
        for measure, value in found["agreement"].items():
            agreement.setdefault(measure, []).extend([value] if value is not None else [])
    return {
        "steps": {c: {o: n[o] for o in ("right", "tie", "wrong")} for c, n in steps.items()},
        "bd_rates": {
            measure: {
                one: {
                    other: {
                        "mean": float(np.mean(shares)) if shares else None,
                        "fewer": sum(share < 0 for share in shares),
                        "clips": len(shares),
                    }
                    for other, shares in others.items()
                }
                for one, others in rows.items()
            }
            for measure, rows in saved.items()
        },
        "agreement": {
            measure: {"mean": float(np.mean(values)), "lowest": min(values), "clips": len(values)}
            for measure, values in agreement.items()
            if values
        },
    }


def _copies(
    predictor: Predictor, paths: Sequence[str], work: str, codec: str, poor: float
) -> dict[str, int]:
    """Of how many whole clips the original is preferred to a copy."""
    preferred, both = 0, 0
    for path in paths:
        result = predictor.compare(_copy(probe(path), work, codec, poor), path)
        preferred += result.second_better > 0.5
        both += result.second_better > 0.5 and not result.contradictory
    return {"preferred": preferred, "both": both, "clips": len(paths)}


def _copy(source: VideoInfo, work: str, codec: str, crf: float) -> str:
    folder = os.path.join(work, "copies", os.path.splitext(os.path.basename(source.path))[0])
    plan = encodes.planned(codec, f"{crf:g}")
    whole = (0, source.num_frames)
    (made,) = encodes.make(source, whole, plan, folder, DEFAULT_LIMITS)
    if made.error is not None:
        raise RuntimeError(f"{made.path}: {made.error}")
    return made.path


def table(found: dict[str, Any]) -> str:
    """The figures of `measure` as text."""
    lines = [
        f"{found['clips']} clips, {found['seconds']:g} s of each in the ladders, model "
        f"{found['model']}, {found['machine']}"
    ]
    for codec, steps in found["steps"].items():
        told = steps["right"], sum(steps.values()), steps["tie"]
        lines.append("{}: neighbours in order {} of {}, {} ties".format(codec, *told))
    for measure, rows in found["bd_rates"].items():
        first, others = next(iter(rows.items()))
        for other, one in others.items():
            if one["mean"] is not None:
                lines.append(
                    f"bits at equal {measure} against {first}: {other} {one['mean']:+.1%} in the "
                    f"mean, fewer in {one['fewer']} of {one['clips']} clips"
                )
    for measure, one in found["agreement"].items():
        lines.append(
            f"rank agreement with {measure}: mean {one['mean']:.3f}, lowest {one['lowest']:.3f}"
        )
    for codec, one in found["copies"].items():
        lines.append(
            f"{codec}: original preferred to its poor copy in {one['preferred']} of "
            f"{one['clips']}, in either order in {one['both']}"
        )
    return "\n".join(lines)
