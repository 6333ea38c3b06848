"""The page of `score --explain`: kinds of flaw, pictures and motion, places of each video."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from vqa_jax.report import html
from vqa_jax.report.timeline import clock
from vqa_jax.scoring.explanation import NOT, Explanation

PAGE_FILE = "explanation.html"


def write(found: Sequence[Explanation], scale: str, out: str) -> str:
    """Writes the page to folder `out`; returns its path."""
    path = os.path.join(out, PAGE_FILE)
    html.write(
        path,
        "explanation.html",
        title="What the student sees",
        videos=[_shown(one) for one in found],
        scale=scale,
        what_not=NOT,
    )
    return path


def _shown(one: Explanation) -> dict[str, Any]:
    kinds = ["none of them", *(kind_of(flaw.kind) for flaw in one.flaws)]
    shares = [one.undistorted, *(flaw.probability for flaw in one.flaws)]
    bars = html.Bars(
        "Kinds of flaw",
        [(k, html.percent(s, 0), round(s, 4)) for k, s in zip(kinds, shares, strict=True)],
        "s1",
    )
    return {
        "name": os.path.basename(one.path) or html.NOTHING,
        "tiles": [
            ("Score", f"{one.score:.1f}"),
            ("Pictures alone", f"{one.pictures:.1f}"),
            ("Motion alone", html.NOTHING if one.motion is None else f"{one.motion:.1f}"),
        ],
        "bars": bars,
        "level": level_of(one),
        "heat": html.jpeg_uri(one.heat) if one.heat else "",
        "time": clock(one.time),
        "range": [f"{f(p.score for p in one.places):.1f}" for f in (min, max)] if one.heat else [],
    }


def kind_of(simulator: str) -> str:
    """A simulator's name for people."""
    return simulator.replace("_", " ")


def level_of(one: Explanation) -> str:
    """The likeliest kind and its level, in words."""
    flaw = one.flaws[0]
    if one.undistorted >= flaw.probability:
        return "It looks like none of the kinds of flaw that the student knows."
    return (
        f"It looks most like {kind_of(flaw.kind)} ({flaw.probability:.0%}), at about level "
        f"{flaw.level:.1f} of {flaw.levels} (1 is mild)."
    )


def render(one: Explanation) -> str:
    """What to tell on the terminal of a video."""
    motion = "" if one.motion is None else f", motion alone {one.motion:.2f}"
    kinds = [f"none {one.undistorted:.0%}"]
    kinds += [f"{kind_of(f.kind)} {f.probability:.0%} (level {f.level:.1f})" for f in one.flaws[:3]]
    return "\n".join(
        [
            f"{one.path}: score {one.score:.2f}, pictures alone {one.pictures:.2f}{motion}",
            f"  {', '.join(kinds)}",
        ]
    )


def numbers(one: Explanation) -> dict[str, Any]:
    """All of it but the picture, as plain values."""
    return {k: v for k, v in dataclasses.asdict(one).items() if k != "heat"}
