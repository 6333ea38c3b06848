"""The page of `ladder`: quality over bitrate, every rung, and the bits that codecs save."""

from __future__ import annotations

import os

from vqa_jax.report import html, plots
from vqa_jax.report.html import Cell, Figure, Table
from vqa_jax.report.plots import Series
from vqa_jax.scoring.ladder import QUALITY, TIE, Ladder, measures, values

_MEASURES = {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 4), "vmaf": ("VMAF", 1)}
_SURE = 0.5  # a share of bits whose cell is tinted most


def write(ladder: Ladder, path: str) -> None:
    """Writes the page."""
    failed = [r for r in ladder.rungs if r.error is not None]
    orders = [step.order for step in ladder.steps]
    legend = [
        (plots.series_class(k), f"{codec}{_knee(ladder, codec)}")
        for k, codec in enumerate(ladder.codecs)
    ]
    html.write(
        path,
        "ladder.html",
        title=f"Quality over bitrate: {os.path.basename(ladder.source)}",
        curve=_figure(ladder, QUALITY, "quality") if ladder.codecs else None,
        legend=legend,
        others=[
            _figure(ladder, measure, _MEASURES[measure][0]) for measure in measures(ladder.rungs)
        ],
        rungs=_rungs(ladder),
        savings=[_savings(measure, found) for measure, found in ladder.bd_rates.items()],
        steps={order: orders.count(order) for order in ("right", "tie", "wrong")},
        wrong=[
            f"{s.dearer} against {s.cheaper}: {html.percent(s.dearer_better, 0)}"
            for s in ladder.steps
            if s.order == "wrong"
        ],
        tie=TIE,
        agreement=[
            f"{_word(measure)} {html.correlation(value)}"
            for measure, value in ladder.agreement.items()
        ],
        passages=ladder.passages,
        contradictions=ladder.contradictions,
        failed=[f"{r.encode.name}: {r.error}" for r in failed],
        model=ladder.model,
    )


def _word(measure: str) -> str:
    return _MEASURES[measure][0].partition(",")[0] if measure in _MEASURES else measure


def _knee(ladder: Ladder, codec: str) -> str:
    name = ladder.knees.get(codec)
    return f" (knee: {name})" if name else ""


def _figure(ladder: Ladder, measure: str, words: str) -> Figure:
    series, marks = [], []
    for index, (codec, curve) in enumerate(ladder.codecs.items()):
        told = zip(curve, values(curve, measure), strict=True)
        kept = [(rung, value) for rung, value in told if value is not None]
        rates, heights = [r.encode.kbps for r, _ in kept], [value for _, value in kept]
        spread = [r.std for r, _ in kept] if measure == QUALITY else None
        series.append(Series(rates, heights, index, spread))
        if measure == QUALITY:
            knees = (p for p in kept if p[0].encode.name == ladder.knees.get(codec))
            marks += [(rung.encode.kbps, value, index) for rung, value in knees]
    wide, narrow = (plots.rates(series, marks, words, narrow) for narrow in (False, True))
    if measure != QUALITY:
        return Figure(narrow, words, alt=f"{words} over bitrate")
    note = "band: ± 1 std; ringed: the knee; the source is 0"
    return Figure(wide, "Quality over bitrate", note, narrow=narrow)


def _rungs(ladder: Ladder) -> Table:
    told = measures(ladder.rungs)
    head = ["encode", "kbit/s", "quality", "5% of passages below"]
    head += [_MEASURES[measure][0] for measure in told]
    rows: list[list[str | Cell]] = []
    for codec, curve in ladder.codecs.items():
        for rung in curve:
            mark = "knee" if rung.encode.name == ladder.knees.get(codec) else ""
            row: list[str | Cell] = [
                Cell(rung.encode.name, mark, "file"),
                html.count(rung.encode.kbps),
                f"{html.signed(rung.quality, 2)} ± {rung.std:.2f}",
                html.signed(rung.percentile_5, 2),
            ]
            for measure in told:
                found, digits = rung.measured.get(measure), _MEASURES[measure][1]
                if not found:
                    row.append(html.NOTHING)
                    continue
                low = f"5% below {found['percentile_5']:.{digits}f}"
                row.append(Cell(f"{found['mean']:.{digits}f}", low))
            rows.append(row)
    return Table("Encodes, of each codec from the cheapest on", head, rows)


def _savings(measure: str, found: dict[str, dict[str, float | None]]) -> Table:
    name = _word(measure)
    rows: list[list[str | Cell]] = []
    for codec in found:
        row: list[str | Cell] = [codec]
        for base in found:
            share = found[base][codec]
            if codec == base:
                row.append(Cell(html.NOTHING, kind="none"))
            elif share is None:
                row.append(Cell(html.NOTHING, "no common quality", "none"))
            else:
                saved = min(max(0.5 - share / _SURE / 2, 0.0), 1.0)
                row.append(html.heat_cell(saved, 0.5, f"{html.signed(100 * share, 1)}%"))
        rows.append(row)
    head = (f"at equal {name}", *(f"against {codec}" for codec in found))
    return Table(f"Bits at equal {name}", head, rows, "heat")
