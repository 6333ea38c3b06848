"""Evaluates a model's scores on labelled test sets: agreement, its uncertainty, and differences.

Each set stands alone; method 9's two averages weigh the sets by numbers of scored videos, and a
plain mean over the sets stands beside them. What a video shows follows from a column of its labels
or, for known sets, from its name; contents are resampled with all their videos. Resamples
are drawn set by set, from a seed and the set's name, so that they do not depend on which other sets
are evaluated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from vqa_jax.benchmarks import bootstrap, metrics, significance
from vqa_jax.benchmarks import sets as benchmarks
from vqa_jax.benchmarks.labels import Labels, label_files, read_labels
from vqa_jax.benchmarks.score_tables import ScoreTable, read_scores
from vqa_jax.benchmarks.sets import GROUPS, Benchmark, BenchmarkError
from vqa_jax.jobs.files import key_hash

COMPARED = ("srcc", "plcc")
"""Metrics that two models are compared by."""
AVERAGED = ("srcc", "plcc", "plcc_logistic", "krcc")
"""Metrics with a weighted mean; an RMSE is in units of each set's own MOS."""


@dataclasses.dataclass(frozen=True, eq=False)
class SetResult:
    """One model on one set.

    Attributes:
      benchmark: the set.
      videos: names as labelled [N].
      mos: float64 [N].
      predicted: float64 [N], NaN for videos without a score.
      fitted: float64 [N], `predicted` after the logistic fit, on the MOS scale; NaN where there
        is none.
      contents: what each video shows [N]; its own name where nothing tells.
      contents_rule: what told it; "" where nothing does.
      ambiguous: videos that several scores could belong to; they have none.
      srcc_within: `metrics.srcc_within` of the scored videos.
      values: metric -> value over the scored videos.
      draws: metric -> bootstrap distribution.
    """

    benchmark: Benchmark
    videos: tuple[str, ...]
    mos: np.ndarray
    predicted: np.ndarray
    fitted: np.ndarray
    contents: np.ndarray
    contents_rule: str
    ambiguous: int
    srcc_within: float
    values: Mapping[str, float]
    draws: Mapping[str, np.ndarray]

    @property
    def scored(self) -> np.ndarray:
        """bool [N]: which videos have a score."""
        return np.isfinite(self.predicted)

    @property
    def num_scored(self) -> int:
        """How many of the labelled videos count."""
        return int(self.scored.sum())

    @property
    def num_contents(self) -> int:
        """How many contents the scored videos show: what was resampled."""
        return len(np.unique(self.contents[self.scored]))


@dataclasses.dataclass(frozen=True, eq=False)
class Overall:
    """Weighted mean of one group of sets.

    Attributes:
      group: key of GROUPS.
      sets: number of sets in it, and of those evaluated.
      num_contents: of all its sets.
      macro: metric -> mean over the sets, each counted once.
      values, draws: as in SetResult, of AVERAGED.
    """

    group: str
    sets: tuple[int, int]
    num_contents: int
    macro: Mapping[str, float]
    values: Mapping[str, float]
    draws: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class BenchmarkRun:
    """One model on several sets."""

    model: str
    sets: tuple[SetResult, ...]
    overall: tuple[Overall, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models on the videos of one set (or group of sets) that both have scored.

    Attributes:
      name: set or group.
      videos: number of common videos.
      contents: what they show, in number.
      differences: metric of COMPARED -> paired bootstrap, p as it is.
      corrected: metric -> p after Holm's correction over the sets; NaN for groups.
      williams: (t, p) for the raw PLCC; NaN for groups.
    """

    name: str
    videos: int
    contents: int
    differences: Mapping[str, significance.Difference]
    corrected: Mapping[str, float]
    williams: tuple[float, float]


def read_run(
    model: str,
    predictions: Sequence[str],
    labels: Mapping[str, str],
    column: str = "",
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> BenchmarkRun:
    """Evaluates score files on label files.

    Args:
      model: what to call the model.
      predictions: score files (see `score_tables.read_scores`): one for all sets, or one a set as
        in `benchmarks.labels.label_files`.
      labels: set -> label file. A name that is none of the ten is a set of one's own.
      column: the scores' column, needed where a file has several; "a+b" is the sum of two columns,
        each standardized over the set.
      draws: bootstrap resamples; 0 for no intervals.
      seed: of the resamples.

    Raises:
      LabelsError, ScoresError: a file cannot be read.
      BenchmarkError: a set without scores, or an unclear column.
    """
    wanted = {name: benchmarks.known_or_own(name) for name in labels}
    files = label_files(predictions)
    whole = None
    if len(files) == 1:
        ((name, path),) = files.items()
        whole = path if not _belongs(name, wanted) else None
    by_set = {}
    for name, benchmark in wanted.items():
        own = [path for key, path in files.items() if _belongs(key, {name: benchmark})]
        if not own and whole is None:
            logging.warning("no scores for %s: it is left out", name)
        else:
            by_set[name] = own[0] if own else whole
    tables = {path: read_scores(path) for path in dict.fromkeys(by_set.values())}
    sets = [
        evaluate_set(wanted[name], labels[name], tables[path], path, column, draws, seed)
        for name, path in by_set.items()
    ]
    if not sets:
        raise BenchmarkError(
            f"none of the score files ({', '.join(files)}) is for one of the labelled sets "
            f"({', '.join(labels)}): name them alike, or give NAME=FILE"
        )
    order = {name: k for k, name in enumerate(benchmarks.BENCHMARKS)}
    sets.sort(key=lambda s: order.get(s.benchmark.name, len(order)))
    return BenchmarkRun(model, tuple(sets), tuple(_overall(sets)))


def _belongs(name: str, wanted: Mapping[str, Benchmark]) -> bool:
    found = benchmarks.find(name)
    return name in wanted or (found is not None and found in wanted.values())


def evaluate_set(
    benchmark: Benchmark,
    labels_path: str,
    table: ScoreTable,
    table_path: str,
    column: str = "",
    draws: int = bootstrap.DRAWS,
    seed: int = 0,
) -> SetResult:
    """Evaluates one table of scores on one set; arguments and errors as in `read_run`."""
    labels = read_labels(labels_path)
    scores = _column(table, table_path, column)
    with_score = np.flatnonzero(np.isfinite(scores).all(axis=1))
    names = [table.videos[k] for k in with_score]
    matches = benchmarks.match(benchmark, labels.names, names)
    place = np.array([-1 if k is None else k for k in matches.found])
    if (place < 0).all():
        raise BenchmarkError(
            f"{benchmark.name}: no video of {labels_path} has a score in {table_path}; a label "
            f"reads {labels.names[0]!r}, a scored video {names[0] if names else 'nothing'!r}"
        )
    predicted = np.full(len(place), np.nan)
    # Standardized over the set's own videos, whatever else the table holds.
    predicted[place >= 0] = _sum(scores[with_score][place[place >= 0]])
    missing = int((place < 0).sum())
    if missing:
        logging.warning("%s: %d of %d videos have no score", benchmark.name, missing, len(place))
    x, y = predicted[place >= 0], labels.mos[place >= 0]
    values = metrics.correlate(x, y)
    if values["srcc"] < 0:
        logging.warning("%s: SRCC is negative; scores must rise with quality", benchmark.name)
    fitted = np.full(len(place), np.nan)
    if np.isfinite(values["rmse"]):
        fitted[place >= 0] = metrics.logistic(x, metrics.fit_logistic(x, y))
    contents, rule = _contents(benchmark, labels)
    shown = contents[place >= 0]
    of_set = _set_seed(seed, benchmark)
    return SetResult(
        benchmark,
        labels.names,
        labels.mos,
        predicted,
        fitted,
        contents,
        rule,
        len(matches.ambiguous),
        metrics.srcc_within(x, y, shown),
        values,
        bootstrap.distributions(x, y, draws, of_set, metrics.METRICS, shown),
    )


def _contents(benchmark: Benchmark, labels: Labels) -> tuple[np.ndarray, str]:
    """What each video shows [N], and what told it."""
    if labels.contents:
        return np.array(labels.contents), "a column of the labels"
    return np.array([benchmark.content_key(n) for n in labels.names]), benchmark.contents_rule


def _set_seed(seed: int, benchmark: Benchmark) -> list[int]:
    return [seed, key_hash(benchmark.name)]


def _column(table: ScoreTable, path: str, column: str) -> np.ndarray:
    """The columns asked for, float64 [videos, columns]."""
    wanted = [name.strip() for name in column.split("+")] if column else list(table.teachers)
    unknown = [name for name in wanted if name not in table.teachers]
    if unknown or (not column and len(wanted) > 1):
        raise BenchmarkError(
            f"{path} has scores in the columns {', '.join(table.teachers)}: name one with "
            "--column, or a sum of standardized ones with --column A+B"
        )
    return table.scores[:, [table.teachers.index(name) for name in wanted]]


def _sum(scores: np.ndarray) -> np.ndarray:
    if scores.shape[1] == 1:
        return scores[:, 0]
    std = scores.std(axis=0)
    return ((scores - scores.mean(axis=0)) / np.where(std > 0, std, 1)).sum(axis=1)


def _overall(sets: Sequence[SetResult]) -> list[Overall]:
    found = []
    for group in ("in", "ood"):
        mine = [s for s in sets if s.benchmark.group == group]
        if not mine:
            continue
        weights = np.array([s.num_scored for s in mine], np.float64)
        weights /= weights.sum()
        counts = {s.benchmark.name: s.num_scored for s in mine}
        values = {
            name: metrics.weighted_overall({s.benchmark.name: s.values[name] for s in mine}, counts)
            for name in AVERAGED
        }
        draws = {name: weights @ np.stack([s.draws[name] for s in mine]) for name in AVERAGED}
        known = sum(b.group == group for b in benchmarks.BENCHMARKS.values())
        macro = {name: float(np.mean([s.values[name] for s in mine])) for name in AVERAGED}
        contents = sum(s.num_contents for s in mine)
        found.append(Overall(group, (known, len(mine)), contents, macro, values, draws))
    return found


def compare(
    first: BenchmarkRun, second: BenchmarkRun, draws: int = bootstrap.DRAWS, seed: int = 0
) -> list[Comparison]:
    """Differences between two models, first minus second, over the videos that both have scored.

    Args:
      first, second: evaluated on the same label files.
      draws: bootstrap resamples.
      seed: of the resamples.

    Raises:
      BenchmarkError: no set in common, or different videos in a set.
    """
    other = {s.benchmark.name: s for s in second.sets}
    rows, pieces = [], []
    for a in first.sets:
        b = other.get(a.benchmark.name)
        if b is None:
            continue
        if a.videos != b.videos:
            raise BenchmarkError(f"{a.benchmark.name}: the two runs have different labels")
        both = a.scored & b.scored
        values, found = [], []
        for result in (a, b):
            x, y = result.predicted[both], a.mos[both]
            values.append(metrics.correlate(x, y, COMPARED))
            of_set = _set_seed(seed, a.benchmark)
            shown = a.contents[both]
            found.append(bootstrap.distributions(x, y, draws, of_set, COMPARED, shown))
        units = len(np.unique(a.contents[both]))
        differences = {
            m: significance.from_draws(values[0][m] - values[1][m], found[0][m], found[1][m], units)
            for m in COMPARED
        }
        between = metrics.correlate(a.predicted[both], b.predicted[both], ("plcc",))["plcc"]
        test = significance.williams(values[0]["plcc"], values[1]["plcc"], between, int(both.sum()))
        rows.append(Comparison(a.benchmark.name, int(both.sum()), units, differences, {}, test))
        pieces.append((a.benchmark.group, rows[-1], values, found))
    if not rows:
        raise BenchmarkError(f"{first.model} and {second.model} have no set in common")
    corrected = {m: significance.holm([r.differences[m].p for r in rows]) for m in COMPARED}
    rows = [
        dataclasses.replace(row, corrected={m: corrected[m][k] for m in COMPARED})
        for k, row in enumerate(rows)
    ]
    return rows + _compare_groups(pieces)


def _compare_groups(
    pieces: Sequence[
        tuple[str, Comparison, Sequence[Mapping[str, float]], Sequence[Mapping[str, Any]]]
    ],
) -> list[Comparison]:
    found = []
    nan = float("nan")
    for group in ("in", "ood"):
        mine = [piece for piece in pieces if piece[0] == group]
        if len(mine) < 2:
            continue
        counts = np.array([piece[1].videos for piece in mine], np.float64)
        units = sum(piece[1].contents for piece in mine)
        weights = counts / counts.sum()
        differences = {}
        for m in COMPARED:
            gap = sum(
                w * (v[0][m] - v[1][m]) for w, (_, _, v, _) in zip(weights, mine, strict=True)
            )
            first, second = (weights @ np.stack([d[k][m] for *_, d in mine]) for k in (0, 1))
            differences[m] = significance.from_draws(float(gap), first, second, units)
        name = f"overall, {GROUPS[group]}"
        row = Comparison(
            name, int(counts.sum()), units, differences, dict.fromkeys(COMPARED, nan), (nan, nan)
        )
        found.append(row)
    return found
