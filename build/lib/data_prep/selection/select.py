"""Selects videos whose low-level metrics are distributed as a target's (method 2).

    python -m data_prep select --metrics metrics.parquet --target lsvq_metrics.parquet --num 200000
        --quotas bilibili=0.2,youku=0.2,youtube=0.25,tiktok=0.35 --out selected.csv

The target is another table of metrics (equally wide bins from its 1st to its 99th percentile), or
JSON with histograms: {"contrast": {"edges": [20, 40, 60], "shares": [0.1, 0.4, 0.4, 0.1]}, ...},
for every metric the inner edges of the bins and a share for each bin, one more than edges.
`selected.csv` is a listing for `data_prep build`; beside it lie `selected.csv.json`, how well each
histogram matches and how far from the best reachable, and `selected.csv.png`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

import matplotlib.figure
import numpy as np
import pyarrow as pa
from absl import logging

from data_prep.selection.histogram_matching import Matching, match_histograms
from data_prep.selection.low_level_metrics import METRICS, read_metrics
from vqa_jax.jobs import csv_cells
from vqa_jax.jobs.files import CorpusError, read_json, write_json, written

_NUM_BINS = 10
_LABELS = ("path", "source", "licence", "split")


@dataclasses.dataclass(frozen=True)
class Target:
    """Wanted histograms.

    Attributes:
      edges: for each of METRICS the inner edges of its bins, ascending; the outer bins are open.
      shares: for each of METRICS the share of each bin, summing to 1.
    """

    edges: tuple[np.ndarray, ...]
    shares: tuple[np.ndarray, ...]

    def bins_of(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Bin of each value, uint8 [M, N]; a value on an edge belongs to the bin above it."""
        found = [np.searchsorted(e, v, "right") for e, v in zip(self.edges, values, strict=True)]
        return np.stack(found).astype(np.uint8)

    def share_table(self) -> np.ndarray:
        """Shares [M, K], filled up with zeros where a metric has fewer bins."""
        table = np.zeros((len(self.shares), max(len(s) for s in self.shares)))
        for row, shares in zip(table, self.shares, strict=True):
            row[: len(shares)] = shares
        return table


def read_target(path: str) -> Target:
    """Reads the target histograms from a table of metrics or from JSON, told by the extension.

    Raises:
      CorpusError: no such file, or not one histogram for each metric.
    """
    if not path.endswith(".json"):
        return target_of(_values(read_metrics(path)))
    edges, shares = [], []
    given = read_json(path)
    for name in METRICS:
        try:
            inner, wanted = (np.asarray(given[name][k], np.float64) for k in ("edges", "shares"))
            fits = inner.ndim == wanted.ndim == 1 and len(wanted) == len(inner) + 1 <= 255
            if not (fits and (np.diff(inner) > 0).all() and (wanted >= 0).all()):
                raise ValueError(
                    "edges ascend, and there is one share more than edges, none below 0"
                )
            if not math.isclose(wanted.sum(), 1, abs_tol=1e-3):
                raise ValueError(f"shares add up to {wanted.sum():g}, not 1")
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(
                f"{path}: histogram of {name}: {error!r}: correct the file"
            ) from error
        edges.append(inner)
        shares.append(wanted / wanted.sum())
    return Target(tuple(edges), tuple(shares))


def target_of(values: Sequence[np.ndarray]) -> Target:
    """Histograms of a target corpus: ten bins, equally wide from the 1st to the 99th percentile.

    Args:
      values: for each of METRICS an array [N].
    """
    edges = []
    for column in values:
        low, high = np.percentile(column, [1, 99])
        high = high if high > low else low + 1.0  # a metric that is the same everywhere
        edges.append(np.linspace(low, high, _NUM_BINS + 1)[1:-1])
    bins = Target(tuple(edges), ()).bins_of(values)
    shares = [np.bincount(row, minlength=_NUM_BINS) / row.size for row in bins]
    return Target(tuple(edges), tuple(shares))


def quota_counts(quotas: Mapping[str, float], num: int) -> dict[str, int]:
    """Rows of each source that make `num` in all: largest remainders, ties by name.

    Raises:
      ValueError: shares below 0, or that do not add up to 1.
    """
    if min(quotas.values()) < 0 or not math.isclose(sum(quotas.values()), 1, abs_tol=1e-6):
        raise ValueError(f"quotas {dict(quotas)} are shares: 0 or more, 1 in all")
    counts = {name: int(share * num + 1e-9) for name, share in quotas.items()}
    by_remainder = sorted(quotas, key=lambda name: (counts[name] - quotas[name] * num, name))
    for name in by_remainder[: num - sum(counts.values())]:
        counts[name] += 1
    return counts


def select(
    table: pa.Table, target: Target, num: int, quotas: Mapping[str, float], seed: int
) -> Matching:
    """Chooses `num` rows of a table of metrics.

    Args:
      table: as `low_level_metrics.read_metrics` gives it.
      target: wanted histograms.
      num: rows to choose, at least 1.
      quotas: source -> share; rows of other sources are not chosen. Empty: whatever the source.
      seed: of the rounding.

    Raises:
      CorpusError: too few rows, altogether or of a source.
    """
    bins = target.bins_of(_values(table))
    if quotas:
        counts = quota_counts(quotas, num)
        encoded = table["source"].combine_chunks().dictionary_encode()
        place = {name: k for k, name in enumerate(counts)}
        names = [place.get(name, len(counts)) for name in encoded.dictionary.to_pylist()]
        sources = np.asarray(names, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
    else:
        counts = {"": num}
        sources = np.zeros(len(table), np.int64)
    available = np.bincount(sources, minlength=len(counts) + 1)
    for k, (name, count) in enumerate(counts.items()):
        if available[k] < count:
            group = f"source {name!r}" if quotas else "the table"
            raise CorpusError(
                f"{group} has {available[k]} of the {count} rows wanted: lower --num"
                + (" or its quota" if quotas else "")
            )
    if available[len(counts)]:
        logging.warning("%d rows are of no source with a quota", available[len(counts)])
    wanted = [*counts.values(), 0]  # the last: rows of other sources
    return match_histograms(bins, target.share_table(), sources, wanted, seed)


def plot(path: str, table: pa.Table, chosen: np.ndarray, target: Target) -> None:
    """Writes a PNG of nine panels: each metric's histogram before, after, and of the target."""
    bins = target.bins_of(_values(table))
    figure = matplotlib.figure.Figure(figsize=(12, 9), layout="constrained")
    panels = figure.subplots(3, 3).flat
    for axes, name, row, edges, shares in zip(
        panels, METRICS, bins, target.edges, target.shares, strict=True
    ):
        steps = np.arange(len(shares) + 1) - 0.5
        before = np.bincount(row, minlength=len(shares)) / row.size
        after = np.bincount(row[chosen], minlength=len(shares)) / np.count_nonzero(chosen)
        axes.stairs(shares, steps, fill=True, color="0.85", label="target")
        axes.stairs(before, steps, color="tab:orange", linestyle="--", label="before")
        axes.stairs(after, steps, color="tab:blue", label="after")
        ticks = np.unique(np.linspace(0, len(edges) - 1, 4).astype(int)) if len(edges) else []
        axes.set_xticks([k + 0.5 for k in ticks], [f"{edges[k]:.3g}" for k in ticks])
        axes.set_title(f"{name}: {np.abs(after - shares).sum() / 2:.2%} off the target", size=10)
    figure.axes[0].legend(frameon=False)
    figure.supylabel("share of videos")
    temporary = f"{path}.{os.getpid()}.tmp"
    figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
    os.replace(temporary, path)


def write_selection(path: str, table: pa.Table, chosen: np.ndarray) -> None:
    """Writes the chosen rows as a listing: path, source, licence, split, in the table's order."""
    rows = table.select(list(_LABELS)).filter(pa.array(chosen))
    with written(path, newline="") as file:
        writer = csv_cells.Writer(file)
        writer.writerow(_LABELS)
        for batch in rows.to_batches(max_chunksize=65536):
            writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _values(table: pa.Table) -> list[np.ndarray]:
    return [table[name].to_numpy() for name in METRICS]


def parse_quotas(text: str) -> dict[str, float]:
    """Source -> share of "name=share,name=share".

    Raises:
      ValueError: anything else.
    """
    quotas: dict[str, float] = {}
    for item in filter(None, text.split(",")):
        name, _, share = item.rpartition("=")
        if name in quotas:
            raise ValueError(f"--quotas names {name!r} twice")
        try:
            quotas[name] = float(share)
        except ValueError as error:
            raise ValueError(f"--quotas: {item!r} is not source=share") from error
    return quotas


def select_listing(
    metrics: str, target: str, num: int, quotas: Mapping[str, float], out: str, seed: int = 0
) -> str:
    """Selects from a table of metrics; writes the listing, its report and its picture.

    Args:
      metrics: table of `low_level_metrics` to select from.
      target: of `read_target`.
      num: rows to choose, at least 1.
      quotas: see `select`.
      out: listing to write; beside it `out`.json and `out`.png.
      seed: of the rounding.

    Returns:
      a sentence on how well the histograms match.

    Raises:
      CorpusError: a table that cannot be read, or too few rows.
      ValueError: quotas that are no shares.
    """
    wanted = read_target(target)
    table = read_metrics(metrics)
    result = select(table, wanted, num, quotas, seed)
    plot(out + ".png", table, result.chosen, wanted)
    write_json(
        out + ".json",
        {
            "rows": len(table),
            "selected": num,
            "quotas": dict(quotas),
            "seed": seed,
            "exact": result.exact,
            "total_variation": dict(zip(METRICS, result.distances.tolist(), strict=True)),
            "mean_total_variation": float(result.distances.mean()),
            "bound_of_the_mean": result.bound,
            "gap_to_the_bound": result.gap,
        },
    )
    write_selection(out, table, result.chosen)
    most, mean, bound = result.distances.max(), result.distances.mean(), result.bound
    return (
        f"{out}: {num} of {len(table)} rows; histograms off by {100 * most:.3g}% at most,"
        f" {100 * mean:.3g}% in the mean; no selection is below {100 * bound:.3g}%"
    )
