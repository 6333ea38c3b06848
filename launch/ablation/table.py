"""The table of all rows: means, spread over seeds, intervals over contents, and signs of steps.

Rows of one world resample the same contents, so that their differences are paired. Seeds of one row
may stand for different worlds; their mean is what is told, and its interval is over the contents of
all of them. The spread over seeds then holds that of the worlds.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from configs import ablation
from data_prep.simulators import SIMULATORS
from launch.ablation import pictures, rows
from vqa_jax.benchmarks import bootstrap, metrics
from vqa_jax.jobs import csv_cells, files

DRAWS = 1000
FIGURES = {
    "folds": "SRCC, held-out folds",
    "within": "the same within kinds",
    "kind": "SRCC, kind left out",
    "seen": "order, simulators trained on",
    "unseen": "order, others",
    "clips": "order, clips",
    **{str(height): f"SRCC at {height} lines" for height in pictures.HEIGHTS},
    "family": "order, the kind of simulators",
}
_PAPER = "paper"  # whose sign is known from the paper's tables
# (better row, other row, whose expectation it is)
STEPS = (
    *((b, a, _PAPER) for a, b in zip(ablation.PAPER, ablation.PAPER[1:], strict=False)),
    ("IV", "random", _PAPER),
    ("IV", "same_steps", "method"),
    *(("III", row, "method") for row in ablation.CONTROLS[2:]),
    *(("III", row, "method") for row in ablation.LEFT_OUT),
)


@dataclasses.dataclass(frozen=True)
class Sampled:
    """A figure with its resamples: value, draws [D], and how many contents were drawn."""

    value: float
    draws: np.ndarray
    contents: int

    def minus(self, other: Sampled) -> Sampled:
        """The difference, draw by draw."""
        least = min(self.contents, other.contents)
        return Sampled(self.value - other.value, self.draws - other.draws, least)

    @property
    def interval(self) -> tuple[float, float]:
        """95%, over contents."""
        return bootstrap.interval(self.draws, units=self.contents)


@dataclasses.dataclass(frozen=True)
class Run:
    """A row's run: its name, seed, the kind left out, and its lines."""

    row: str
    seed: int
    kind: str
    lines: Sequence[rows.Line]

    @classmethod
    def read(cls, path: str) -> Run:
        """Of a file ROW.SEED.KIND.csv."""
        row, seed, kind = os.path.basename(path).removesuffix(".csv").split(".", 2)
        return cls(row, int(seed), kind, rows.read(path))

    def figure(self, name: str, family: str = "") -> Sampled | None:
        """A figure of FIGURES, None where nothing of it was asked.

        Args:
          name: of the figure.
          family: kind of simulators that the figure "family" is of.
        """
        seed = files.key_hash(self.kind) % 2**32
        if name in ("folds", "within", "kind", *map(str, pictures.HEIGHTS)):
            chosen = "folds" if name == "within" else name
            return _srcc([x for x in self.lines if x[0] == chosen], seed, name == "within")

        def wanted(simulator: str) -> bool:
            unseen = simulator in ablation.UNSEEN
            known = {"seen": not unseen, "unseen": unseen, "clips": True}
            return known[name] if name in known else SIMULATORS[simulator].kind == family

        chosen = rows.CLIPS if name == "clips" else rows.ORDER
        return _order([line for line in self.lines if line[0] == chosen and wanted(line[1])], seed)


def _srcc(lines: Sequence[rows.Line], seed: int, within: bool) -> Sampled | None:
    """Rank correlation with people, pooled or the mean within kinds."""
    kinds = sorted({line[1] for line in lines})
    parts = [[line for line in lines if line[1] == kind] for kind in kinds] if within else [lines]
    parts = [part for part in parts if len(part) >= metrics.MIN_FIT]
    if not parts:
        return None
    values, draws, contents = [], [], 0
    for k, part in enumerate(parts):
        _, _, content, scores, mos = zip(*part, strict=True)
        values.append(metrics.correlate(scores, mos, ("srcc",))["srcc"])
        drawn = bootstrap.distributions(scores, mos, DRAWS, [seed, k], ("srcc",), content)
        draws.append(drawn["srcc"])
        contents += len(set(content))
    return Sampled(float(np.mean(values)), np.mean(draws, axis=0), contents)


def _order(lines: Sequence[rows.Line], seed: int) -> Sampled | None:
    """Share of pairs in order, the mean over simulators."""
    if not lines:
        return None
    contents, simulators = (sorted({line[k] for line in lines}) for k in (2, 1))
    right, total = np.zeros((2, len(contents), len(simulators)))
    for _, simulator, content, value, of in lines:
        place = contents.index(content), simulators.index(simulator)
        right[place], total[place] = value, of
    drawn = np.random.default_rng([seed, 0]).integers(0, len(contents), (DRAWS, len(contents)))
    counts = np.stack([np.bincount(row, minlength=len(contents)) for row in drawn])
    with np.errstate(invalid="ignore"):
        draws = np.nanmean(counts @ right / (counts @ total), axis=1)
    return Sampled(float(np.mean(right.sum(0) / total.sum(0))), draws, len(contents))


def mean_of(found: Sequence[Sampled]) -> Sampled:
    """The mean over runs, draw by draw."""
    draws = np.mean([one.draws for one in found], axis=0)
    value = float(np.mean([one.value for one in found]))
    return Sampled(value, draws, min(one.contents for one in found))


def verdict(low: float, high: float) -> str:
    """Whether a step has the sign that is expected of it: up."""
    return "yes" if low > 0 else "no" if high < 0 else "not told apart"


class Table:
    """All runs of a folder, and what is told of them."""

    def __init__(self, runs: Sequence[Run]):
        self.runs = sorted(runs, key=lambda run: run.seed)
        present = list(dict.fromkeys(run.row for run in self.runs))
        known = [row for row in ablation.ROWS if row in present]
        self.rows = [*known, *sorted(set(present) - set(known))]
        self._figures: dict[tuple[str, int, str, str], Sampled | None] = {}

    def by_seed(self, row: str, figure: str, family: str = "") -> dict[int, Sampled]:
        """Seed -> figure of a row."""
        found = {}
        for run in self.runs:
            key = row, run.seed, figure, family
            if run.row == row:
                if key not in self._figures:
                    self._figures[key] = run.figure(figure, family)
                if self._figures[key] is not None:
                    found[run.seed] = self._figures[key]
        return found

    def cells(self, row: str) -> dict[str, str]:
        """Figure -> what the table shows of a row."""
        cells = {}
        for name in FIGURES:
            found = [*self.by_seed(row, name, _family_of(row)).values()]
            if found:
                low, high = mean_of(found).interval
                spread = np.std([one.value for one in found], ddof=1) if len(found) > 1 else np.nan
                told = f"{mean_of(found).value:.3f} [{low:.3f}, {high:.3f}]"
                cells[name] = told + (f" ± {spread:.3f}" if len(found) > 1 else "")
        return cells

    def step(self, better: str, other: str) -> dict[str, str]:
        """Figure -> by how much one row leads, and whether that is as expected."""
        told = {}
        family = _family_of(other)
        for name in ("family",) if family else FIGURES:
            one, two = (self.by_seed(row, name, family) for row in (better, other))
            seeds = sorted(one.keys() & two.keys())
            if seeds:
                lead = mean_of([one[seed].minus(two[seed]) for seed in seeds])
                low, high = lead.interval
                up = sum(one[seed].value > two[seed].value for seed in seeds)
                text = f"{lead.value:+.3f} [{low:+.3f}, {high:+.3f}], up in {up} of {len(seeds)}"
                told[name] = f"{text}: {verdict(low, high)}"
        return told

    def markdown(self) -> str:
        """Both tables."""
        shown = [name for name in FIGURES if any(name in self.cells(row) for row in self.rows)]
        seeds = {row: len({r.seed for r in self.runs if r.row == row}) for row in self.rows}
        lines = ["| row | seeds | " + " | ".join(FIGURES[name] for name in shown) + " |"]
        lines.append("|---|---:|" + "---|" * len(shown))
        for row in self.rows:
            cells = self.cells(row)
            told = " | ".join(cells.get(name, "-") for name in shown)
            lines.append(f"| {row} | {seeds[row]} | {told} |")
        lines += [
            "",
            "| step | expected by | figure | lead | sign as expected |",
            "|---|---|---|---|---|",
        ]
        for better, other, whose in STEPS:
            for name, text in self.step(better, other).items():
                lead, _, sign = text.rpartition(": ")
                lines.append(
                    f"| {better} - {other} | {whose} | {FIGURES[name]} | {lead} | {sign} |"
                )
        return "\n".join(lines) + "\n"


def _family_of(row: str) -> str:
    return row.removeprefix("without_") if row in ablation.LEFT_OUT else ""


def write(folder: str, out: str) -> str:
    """Writes OUT/ablation.md and OUT/ablation.csv of the runs in a folder; returns the former."""
    paths = sorted(name for name in os.listdir(folder) if name.endswith(".csv"))
    table = Table([Run.read(os.path.join(folder, name)) for name in paths])
    with files.written(os.path.join(out, "ablation.csv"), newline="") as text:
        cells = csv_cells.Writer(text)
        cells.writerow(["row", "seed", "kind", "figure", "value", "low", "high", "contents"])
        for run in table.runs:
            for name in FIGURES:
                found = table.by_seed(run.row, name, _family_of(run.row)).get(run.seed)
                if found is not None:
                    numbers = [f"{x:.4f}" for x in (found.value, *found.interval)]
                    cells.writerow([run.row, run.seed, run.kind, name, *numbers, found.contents])
    told = table.markdown()
    with files.written(os.path.join(out, "ablation.md")) as text:
        text.write(told)
    return told
