"""Results that papers report, read from the table in assets."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
from collections.abc import Mapping

_PUBLISHED = pathlib.Path(__file__).parents[1] / "assets" / "published_results.csv"


@dataclasses.dataclass(frozen=True)
class Published:
    """One published row: data set -> number; sets that the source does not report are missing."""

    model: str
    source: str
    srcc: Mapping[str, float]
    plcc: Mapping[str, float]


def published() -> list[Published]:
    """Results that papers report, in the file's order, with where each comes from."""
    rows: dict[tuple[str, str], Published] = {}
    with open(_PUBLISHED, encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            key = line["model"], line["source"]
            row = rows.setdefault(key, Published(*key, {}, {}))
            for metric, values in (("srcc", row.srcc), ("plcc", row.plcc)):
                if line[metric]:
                    values[line["dataset"]] = float(line[metric])
    return list(rows.values())
