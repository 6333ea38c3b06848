"""What `ladder` prints, and the rows of its CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vqa_jax import terminal

if TYPE_CHECKING:  # --help must not import JAX
    from vqa_jax.scoring.ladder import Ladder

_COLUMNS = ("name", "codec", "crf", "kbps", "quality", "std", "percentile_5", "knee")
_LAST = ("error",)
_SHOWN = {"psnr": ".2f", "ssim": ".4f", "vmaf": ".1f"}


def columns(found: Ladder) -> list[str]:
    """Names of a row's cells."""
    names = (f"{name}{end}" for name in found.agreement for end in ("", "_percentile_5"))
    return [*_COLUMNS, *names, *_LAST]


def rows(found: Ladder) -> list[dict[str, Any]]:
    """A row a rung, in the given order."""
    knees = set(filter(None, found.knees.values()))
    return [
        {
            "name": rung.encode.name,
            "codec": rung.encode.codec,
            "crf": rung.encode.crf,
            "kbps": rung.encode.kbps,
            "quality": rung.quality,
            "std": rung.std,
            "percentile_5": rung.percentile_5,
            "knee": rung.encode.name in knees,
            "error": rung.error,
            **{name: values["mean"] for name, values in rung.measured.items()},
            **{f"{n}_percentile_5": v["percentile_5"] for n, v in rung.measured.items()},
        }
        for rung in found.rungs
    ]


def render(found: Ladder) -> str:
    """The table for the terminal: every codec from the cheapest on, then what it comes to."""
    names = list(found.agreement)
    head = "".join(f"{name:>8}" for name in names)
    lines = [f"{'kbit/s':>9}  {'quality':>13}  {'5% below':>8}{head}  encode"]
    knees = set(filter(None, found.knees.values()))
    for curve in found.codecs.values():
        for rung in curve:
            told = [rung.measured.get(name, {}).get("mean") for name in names]
            shown = "".join(
                f"{'-':>8}" if value is None else f"{value:>8{_SHOWN[name]}}"
                for name, value in zip(names, told, strict=True)
            )
            quality = f"{rung.quality:+.2f} ± {rung.std:.2f}"
            mark = "  (knee)" if rung.encode.name in knees else ""
            lines.append(
                f"{rung.encode.kbps:>9.0f}  {quality:>13}  {rung.percentile_5:>+8.2f}{shown}  "
                f"{terminal.name(rung.encode.name)}{mark}"
            )
    for rung in found.rungs:
        if rung.error is not None:
            name = f"{terminal.name(rung.encode.name)}: {terminal.name(rung.error)}"
            lines.append(f"{'-':>9}  {'-':>13}  {'-':>8}{'':{8 * len(names)}}  {name}")
    orders = [step.order for step in found.steps]
    right, ties = orders.count("right"), orders.count("tie")
    lines.append(f"neighbours in order: {right} of {len(orders)}, {ties} ties")
    for measure, value in found.agreement.items():
        if value is not None:
            lines.append(f"rank agreement of quality with {measure}: {value:.3f}")
    for measure, by_codec in found.bd_rates.items():
        for codec, others in by_codec.items():
            saved = [
                f"{terminal.name(other)} {share:+.1%}"
                for other, share in others.items()
                if other != codec and share is not None
            ]
            if saved:
                lines.append(
                    f"bits at equal {measure} against {terminal.name(codec)}: {', '.join(saved)}"
                )
    lines.append("quality: Thurstone score among these encodes; the source is 0")
    return "\n".join([*lines, f"model: {found.model}"])
