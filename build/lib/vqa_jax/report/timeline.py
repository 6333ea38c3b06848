"""The page of a timeline: score with its std over time, and pictures of the worst moments."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vqa_jax.report import html, plots
from vqa_jax.report.html import Figure
from vqa_jax.scoring.pictures import CROP_SIDE, FRAME_SIDE
from vqa_jax.scoring.timeline import Moment, Timeline, summary

PAGE_FILE = "timeline.html"
_MAX_POINTS = 600  # of the curve; more cannot be seen


def clock(seconds: float) -> str:
    """Seconds as m:ss.s or h:mm:ss.s."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def write(timeline: Timeline, out: str) -> str:
    """Writes the page to folder `out`; returns its path."""
    path = os.path.join(out, PAGE_FILE)
    name = os.path.basename(timeline.path)
    failed = [m for m in timeline.moments if m.error is not None]
    html.write(
        path,
        "timeline.html",
        title=f"Quality over time: {name}",
        name=name,
        curve=_curve(timeline, name),
        scale=timeline.scale,
        failed=_failed(failed),
        notes=timeline.moments[0].notes,
        tiles=timeline.tiles,
        sides=(FRAME_SIDE, CROP_SIDE),
        worst=[
            {
                "title": f"{number}. {clock(look.moment.start)} to {clock(look.moment.stop)}",
                "score": f"{look.moment.score:.1f} ± {look.moment.std:.1f}",
                "time": clock(look.time),
                "frame": html.jpeg_uri(look.frame),
                "crop": html.jpeg_uri(look.crop),
            }
            for number, look in enumerate(timeline.worst, 1)
        ],
    )
    return path


def _failed(moments: Sequence[Moment]) -> str:
    """Which passages have no score, and why; empty if all have one."""
    if not moments:
        return ""
    passages = "1 passage" if len(moments) == 1 else f"{len(moments)} passages"
    return f"{passages} from {clock(moments[0].start)} on: {moments[0].error}"


def render(timeline: Timeline, out: str | None) -> str:
    """What to tell on the terminal; `out` is the folder of the page, if there is one."""
    told = summary(timeline)
    lines = [f"{timeline.path}: {told['scored']} of {told['passages']} passages scored"]
    if told["scored"]:
        middle, low, worst = (told[k] for k in ("median", "percentile_5", "worst_5_percent"))
        lines.append(f"score: median {middle:.2f}, 5% below {low:.2f}, mean of those {worst:.2f}")
    for moment in (look.moment for look in timeline.worst):
        span = f"{clock(moment.start)} to {clock(moment.stop)}"
        lines.append(f"  {moment.score:8.2f} ± {moment.std:.2f}  {span}")
    failed = [m for m in timeline.moments if m.error is not None]
    if failed:
        lines.append(f"no score from {clock(failed[0].start)}: {failed[0].error}")
    if notes := timeline.moments[0].notes:
        lines.append(f"of the video: {notes}")
    lines.append(f"scale: {timeline.scale}")
    if out:
        lines.append(f"page: {os.path.join(out, PAGE_FILE)}")
    return "\n".join(lines)


def _lowest(moments: Sequence[Moment]) -> tuple[list[Moment], int]:
    """At most _MAX_POINTS moments, the lowest of every so many; and of how many each is."""
    size = -(-len(moments) // _MAX_POINTS)
    groups = [moments[i : i + size] for i in range(0, len(moments), size)]
    scored = [[m for m in group if m.score is not None] for group in groups]
    lowest = [
        min(good, key=lambda m: m.score) if good else group[0]
        for good, group in zip(scored, groups, strict=True)
    ]
    return lowest, size


def _curve(timeline: Timeline, name: str) -> Figure:
    drawn, size = _lowest(timeline.moments)
    minutes = timeline.moments[-1].stop > 180
    unit = 60 if minutes else 1

    def place(moment: Moment) -> float:
        return (moment.start + moment.stop) / 2 / unit

    nan = float("nan")
    wide, narrow = (
        plots.passages(
            [place(m) for m in drawn],
            [nan if m.score is None else m.score for m in drawn],
            [nan if m.std is None else m.std for m in drawn],
            [(place(k.moment), k.moment.score) for k in timeline.worst],
            "minutes" if minutes else "seconds",
            "score",
            narrow,
        )
        for narrow in (False, True)
    )
    length = timeline.moments[0].stop - timeline.moments[0].start
    note = f"passages of {length:.3g} s, band: ± 1 std"
    note += f"; each point is the lowest of {size}" if size > 1 else ""
    return Figure(wide, "Score over time", note, f"score of {name} over time", narrow)
