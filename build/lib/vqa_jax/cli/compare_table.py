"""What `compare` prints: the ranking, every pair, and when versions differ most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqa_jax import terminal

if TYPE_CHECKING:  # --help must not import JAX
    from vqa_jax.scoring.differences import Differences
    from vqa_jax.scoring.versions import Ranking


def render(ranking: Ranking, over_time: Sequence[Differences] = ()) -> str:
    """The table for the terminal, best first, failures last, with what the numbers mean."""
    lines = [f"{'':>4} {'among themselves':>16}  {'score':>15}  video"]
    for version in ranking.usable:
        q = f"{version.q:+.2f} ± {version.q_std:.2f}"
        score = "-" if version.score is None else f"{version.score:.2f} ± {version.std:.2f}"
        note = f" ({terminal.name(version.notes)})" if version.notes else ""
        lines.append(f"{version.name:>4} {q:>16}  {score:>15}  {terminal.name(version.path)}{note}")
    for version in ranking.versions:
        if version.error is not None:
            reason = f"{terminal.name(version.path)}: {terminal.name(version.error)}"
            lines.append(f"{version.name:>4} {'-':>16}  {'-':>15}  {reason}")
    for pair in ranking.pairs:
        level = max(pair.level_probs, key=pair.level_probs.get)
        likely = f"{pair.second} is {level} to {pair.first}, {pair.level_probs[level]:.0%}"
        mark = "; CONTRADICTORY: the two orders disagree" if pair.contradictory else ""
        better = f"P({pair.second} better than {pair.first}) {pair.second_better:.2f}"
        lines.append(f"{better}; most likely {likely}{mark}")
    for found in over_time:
        if found.note:
            lines.append(f"{found.second} against {found.first}: {terminal.name(found.note)}")
        for moment in (shown.moment for shown in found.most):
            better = f"P({found.second} better than {found.first}) {moment.second_better:.2f}"
            lines.append(f"  {moment.start:.1f} to {moment.stop:.1f} s: {better}")
    return "\n".join([*lines, f"scale: {ranking.scale}", f"model: {ranking.model}"])
