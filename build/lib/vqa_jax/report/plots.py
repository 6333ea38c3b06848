"""Small SVG plots as data URIs that follow the reader's light or dark setting."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

# Roles of the drawing: stand-in colour in the SVG, colour on a light page, colour on a dark page.
# The stand-ins occur nowhere else, so that replacing them by CSS variables is exact.
_ROLES = {
    "ink": ("#a10001", "#3b424b", "#c9ced6"),
    "grid": ("#a10002", "#e6e6e1", "#33373e"),
    "s0": ("#a10010", "#8b95a3", "#8b95a3"),
    "s1": ("#a10011", "#2563c9", "#79a9ff"),
    "s2": ("#a10012", "#c8641b", "#f2995c"),
    "s3": ("#a10013", "#17856a", "#4ec9a4"),
}
_NUM_SERIES = 4
_DASHES = ("-", "--", ":")
_MAX_POINTS = 600  # of a curve; more cannot be seen at this size


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve: x [n], y [n], index of its colour, half-width [n] of the band around it."""

    x: Sequence[float]
    y: Sequence[float]
    index: int
    spread: Sequence[float] | None = None
    markers: bool = False


def series_class(index: int) -> str:
    """CSS class of the page that has the colour of curve `index`."""
    return f"s{index % _NUM_SERIES}"


def palette(dark: bool) -> str:
    """CSS declarations of the plots' colours, for pages that repeat them in legends."""
    return "".join(f"--{name}:{c[2 if dark else 1]};" for name, c in _ROLES.items())


def _role(name: str) -> str:
    return _ROLES[name][0]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_role("grid"))
    axes.tick_params(colors=_role("ink"), length=0, labelsize=9)
    axes.grid(axis="y", color=_role("grid"), linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _data_uri(figure: Figure) -> str:
    out = io.BytesIO()
    style = {"svg.fonttype": "none", "svg.hashsalt": "report"}
    with matplotlib.rc_context(style):
        figure.savefig(out, format="svg", metadata={"Date": None})
    svg = out.getvalue().decode()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, 'Segoe UI', sans-serif", svg)
    for name, (stand_in, _, _) in _ROLES.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    # Inside the picture: a picture in an <img> does not see the styles of the page around it.
    style = (
        f"<style>:root{{{palette(False)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{palette(True)}}}}}</style>"
    )
    head = svg.index(">") + 1
    svg = svg[:head] + style + svg[head:]
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _thin(values: Sequence[float], keep: np.ndarray) -> np.ndarray:
    return np.asarray(values, float)[keep]


def lines(
    series: Sequence[Series],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    whole_x: bool = False,
) -> str:
    """Curves with optional bands in one small panel.

    Args:
      series: the curves, drawn in order.
      x_label: label of the horizontal axis.
      y_range: limits of the vertical axis; None lets the data decide.
      whole_x: ticks at whole numbers, one apart.

    Returns:
      Data URI of an SVG.
    """
    figure, axes = _axes(3.5, 2.2)
    for curve in series:
        count = len(curve.x)
        step = max(1, -(-count // _MAX_POINTS))
        keep = np.unique(np.append(np.arange(0, count, step), count - 1)) if count else []
        x, y = _thin(curve.x, keep), _thin(curve.y, keep)
        colour = _role(series_class(curve.index))
        if curve.spread is not None:
            spread = _thin(curve.spread, keep)
            axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.16, linewidth=0)
        axes.plot(
            x,
            y,
            color=colour,
            linewidth=1.8,
            linestyle=_DASHES[curve.index // _NUM_SERIES % len(_DASHES)],
            marker="o" if curve.markers or count == 1 else None,
            markersize=4,
        )
    axes.set_xlabel(x_label, color=_role("ink"), fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    whole = all(float(x).is_integer() for curve in series for x in curve.x)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
    if whole_x:
        axes.set_xticks(sorted({int(x) for curve in series for x in curve.x}))
    if y_range is not None:
        axes.set_ylim(*y_range)
    return _data_uri(figure)


def passages(
    x: Sequence[float],
    y: Sequence[float],
    spread: Sequence[float],
    marks: Sequence[tuple[float, float]],
    x_label: str,
    y_label: str,
    narrow: bool = False,
    y_range: tuple[float, float] | None = None,
) -> str:
    """A wide curve over time with its band, and numbered points on it.

    Args:
      x, y, spread: [n] places, values and half-widths of the band; NaN leaves a gap.
      marks: (x, y) of the points numbered 1, 2, 3 ...
      x_label, y_label: labels of the axes.
      narrow: as wide as a phone, so that the text stays legible on it.
      y_range: limits of the vertical axis; None lets the data decide.

    Returns:
      Data URI of an SVG.
    """
    figure, axes = _axes(4.2, 2.8) if narrow else _axes(11.0, 3.2)
    x, y, spread = (np.asarray(v, float) for v in (x, y, spread))
    colour, mark_colour = _role(series_class(1)), _role(series_class(2))
    axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.16, linewidth=0)
    axes.plot(x, y, color=colour, linewidth=1.5, marker="o" if len(x) == 1 else None)
    for number, place in enumerate(marks, 1):
        axes.plot(*place, "o", color=mark_colour, markersize=4)
        axes.annotate(
            str(number),
            place,
            xytext=(0, -5),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=9,
            color=mark_colour,
        )
    axes.margins(x=0.01, y=0.12)
    if y_range is not None:
        axes.set_ylim(*y_range)
    axes.set_xlabel(x_label, color=_role("ink"), fontsize=9)
    axes.set_ylabel(y_label, color=_role("ink"), fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(5 if narrow else 10))
    return _data_uri(figure)


def rates(
    series: Sequence[Series],
    marks: Sequence[tuple[float, float, int]],
    y_label: str,
    narrow: bool = False,
) -> str:
    """Curves of quality over bitrate, which is shown by its logarithm.

    Args:
      series: the curves; x in kbit/s.
      marks: (x, y, index of the curve) of points that are ringed.
      y_label: of the vertical axis.
      narrow: as wide as a phone, so that the text stays legible on it.

    Returns:
      Data URI of an SVG.
    """
    figure, axes = _axes(4.2, 3.2) if narrow else _axes(11.0, 4.2)
    axes.set_xscale("log")
    for curve in series:
        colour = _role(series_class(curve.index))
        x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
        if curve.spread is not None:
            spread = np.asarray(curve.spread, float)
            axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.12, linewidth=0)
        dash = _DASHES[curve.index // _NUM_SERIES % len(_DASHES)]
        axes.plot(x, y, color=colour, linewidth=1.8, linestyle=dash, marker="o", markersize=4)
    for x, y, index in marks:
        colour = _role(series_class(index))
        axes.plot(x, y, "o", markersize=11, markerfacecolor="none", markeredgecolor=colour)
    axes.set_xlabel("kbit/s", color=_role("ink"), fontsize=9)
    axes.set_ylabel(y_label, color=_role("ink"), fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if narrow else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    return _data_uri(figure)


def points(
    x: Sequence[float],
    y: Sequence[float],
    x_label: str,
    y_label: str,
    curve: tuple[Sequence[float], Sequence[float]] | None = None,
) -> str:
    """A small scatter plot; of many points, evenly many of the given order are drawn.

    Args:
      x, y: [n] positions.
      x_label, y_label: labels of the axes.
      curve: a line over the points: x [m], y [m].

    Returns:
      Data URI of an SVG.
    """
    figure, axes = _axes(3.5, 2.6)
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_POINTS)).round().astype(int))
    colour = _role(series_class(1))
    axes.plot(_thin(x, keep), _thin(y, keep), "o", color=colour, markersize=2.5, alpha=0.5, mew=0)
    if curve is not None:
        axes.plot(*curve, color=_role(series_class(2)), linewidth=1.8)
    axes.set_xlabel(x_label, color=_role("ink"), fontsize=9)
    axes.set_ylabel(y_label, color=_role("ink"), fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return _data_uri(figure)
