"""How far scores of pictures agree with people: the one script that reads a set kept for that.

    python launch/people.py --labels LABELS.csv --pictures DIR --scores A.csv [--scores B.csv ...] \
        --runs RUNS.txt

LABELS has path, mos and, if known, kind; a table of scores has path, score and, if known, std, as
`vqa_jax score --csv` writes it, or the path or video and one column a teacher, whose mean of ranks
is told as well. The first table is compared with each further one, in the same resamples of
pictures. Every run adds a line to RUNS, so that it can be told how often the set was looked at;
nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image
from scipy import stats

from vqa_jax.benchmarks import bootstrap, metrics

_INTERVAL = (2.5, 97.5)
_SEED = 0
_MEAN = "mean of ranks"


def read_scores(path: str) -> dict[str, dict[str, float]]:
    """Column -> file name -> number, of every column of a table that holds numbers."""
    with open(path, encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        name = os.path.basename(row.pop("path", None) or row.pop("video"))
        for column, cell in row.items():
            try:
                found.setdefault(column, {})[name] = float(cell)
            except (TypeError, ValueError):
                continue
    return found


def within(scores: np.ndarray, mos: np.ndarray, kinds: np.ndarray) -> float:
    """Mean over kinds of the SRCC inside each."""
    parts = (kinds == kind for kind in np.unique(kinds))
    return float(np.mean([stats.spearmanr(scores[part], mos[part])[0] for part in parts]))


def texture(path: str) -> tuple[float, float, float]:
    """Median gradient, mean and deviation of a picture's luma."""
    luma = np.asarray(Image.open(path).convert("L"), np.float64)
    return float(np.median(np.hypot(*np.gradient(luma)))), float(luma.mean()), float(luma.std())


def partial(scores: np.ndarray, mos: np.ndarray, kinds: np.ndarray, facts: np.ndarray) -> float:
    """Rank correlation of scores and people, given kind and facts [N, K], all by ranks."""
    given = [np.ones(len(mos)), *((kinds == kind) * 1.0 for kind in np.unique(kinds)[1:])]
    given += [stats.rankdata(column) for column in facts.T]
    base = np.stack(given, 1)

    def rest(values: np.ndarray) -> np.ndarray:
        ranks = stats.rankdata(values)
        return ranks - base @ np.linalg.lstsq(base, ranks, rcond=None)[0]

    return float(np.corrcoef(rest(scores), rest(mos))[0, 1])


def report(
    scores: np.ndarray, mos: np.ndarray, kinds: np.ndarray, facts: np.ndarray, std: np.ndarray
) -> dict[str, float]:
    """All figures of one table of scores."""
    drawn = bootstrap.distributions(scores, mos, seed=_SEED, which=("srcc",))["srcc"]
    low, high = np.nanpercentile(drawn, _INTERVAL)
    error = np.abs(scores - mos)
    found = {
        "srcc": metrics.correlate(scores, mos, ("srcc",))["srcc"],
        "low": float(low),
        "high": float(high),
        "within": within(scores, mos, kinds),
        "rmse": float(np.sqrt(np.mean(np.square(scores - mos)))),
        "partial": partial(scores, mos, kinds, facts),
    }
    if np.isfinite(std).all():
        found["error by std"] = float(stats.spearmanr(error, std)[0])
        found["inside one std"] = float(np.mean(error <= std))
    return found


def mean_of_ranks(columns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean rank of every file that all columns know."""
    known = sorted(set.intersection(*map(set, columns)))
    ranks = [stats.rankdata([column[name] for name in known]) for column in columns]
    return dict(zip(known, np.mean(ranks, axis=0).tolist(), strict=True))


def difference(a: np.ndarray, b: np.ndarray, mos: np.ndarray) -> str:
    """SRCC of a minus that of b with its interval, of the pictures that both know."""
    known = np.isfinite(a) & np.isfinite(b)
    drawn = [
        bootstrap.distributions(x[known], mos[known], seed=_SEED, which=("srcc",))["srcc"]
        for x in (a, b)
    ]
    whole = [metrics.correlate(x[known], mos[known], ("srcc",))["srcc"] for x in (a, b)]
    low, high = np.nanpercentile(drawn[0] - drawn[1], _INTERVAL)
    return f"first minus this {whole[0] - whole[1]:+.3f} [{low:+.3f}, {high:+.3f}]"


def _tables(paths: Sequence[str]) -> Mapping[str, tuple[dict[str, float], dict[str, float]]]:
    """Name -> (scores, std) of every column that is a score."""
    found = {}
    for path in paths:
        columns = read_scores(path)
        own = [c for c in ("score",) if c in columns] or sorted(columns)
        if len(own) > 1:
            columns[_MEAN], own = mean_of_ranks([columns[c] for c in own]), [*own, _MEAN]
        for column in own:
            name = f"{os.path.splitext(os.path.basename(path))[0]}:{column}"
            found[name] = (columns[column], columns.get("std", {}) if column == "score" else {})
    return found


def main() -> None:
    """Prints one line a table of scores, and who was judged worst by the first one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("labels", "pictures", "runs"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--scores", action="append", required=True)
    args = parser.parse_args()
    with open(args.labels, encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    names = [os.path.basename(row["path"]) for row in rows]
    mos = np.array([float(row["mos"]) for row in rows])
    kinds = np.array([row.get("kind", "") for row in rows])
    facts = np.array([texture(os.path.join(args.pictures, row["path"])) for row in rows])
    with open(args.runs, "a", encoding="utf-8") as log:
        log.write(f"{datetime.datetime.now().isoformat(timespec='seconds')} {args.scores}\n")
    tables = _tables(args.scores)
    asked = None
    for name, (scores, std) in tables.items():
        ours = np.array([scores.get(n, np.nan) for n in names])
        known = np.isfinite(ours)
        spread = np.array([std.get(n, np.nan) for n in names])
        found = report(ours[known], mos[known], kinds[known], facts[known], spread[known])
        asked = ours if asked is None else asked
        told = [f"{k} {v:.3f}" for k, v in found.items()]
        told += [] if asked is ours else [difference(asked, ours, mos)]
        print(name, f"{known.sum()} pictures", *told)
    first, _ = next(iter(tables.values()))
    error = np.array([first.get(n, np.nan) for n in names]) - mos
    for title, order in (("over-rated", np.argsort(-error)), ("under-rated", np.argsort(error))):
        print(title, *(f"{names[k]} {mos[k]:.0f}{error[k]:+.0f}" for k in order[:10]))


if __name__ == "__main__":
    main()
