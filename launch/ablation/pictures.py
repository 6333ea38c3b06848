"""Which photographs a run may know: in a world a kind is left out, and folds of the others."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vqa_jax.benchmarks import labels
from vqa_jax.jobs import csv_cells, files
from vqa_jax.settings import SettingsError
from vqa_jax.teachers.light import folds

KNOWN, FOLDS, KIND = 0, 1, 2  # numbers in the column `fold` of folds.csv
_NUMBER, _HELD_OUT = 10, (8, 9)
HEIGHTS = (240, 1080)  # lines at which pictures are stored besides
_STORED = 150  # pictures, at most


def write_world(scores: str, photographs: str, kind: str, out: str) -> dict[str, int]:
    """Writes folds.csv, rated.csv and asked.csv; returns the numbers of pictures.

    folds.csv (path, fold, kind, group, mos) tells what becomes of a picture: KNOWN to teachers and
    training, in held-out FOLDS, or of the KIND left out. Near copies share a group; pictures of
    other kinds that have one in the kind left out are in none.

    Args:
      scores: table of human scores: paths below `photographs`.
      photographs: folder; a folder in it is a kind.
      kind: left out.
      out: folder to write.

    Raises:
      SettingsError: no picture is of that kind, or all are.
    """
    table = labels.read_labels(scores)
    kinds = np.array([os.path.dirname(name) for name in table.names])
    inside = kinds == kind
    if not inside.any() or inside.all():
        raise SettingsError(f"{scores}: {inside.sum()} of {len(kinds)} pictures are of {kind!r}")
    paths = [os.path.join(photographs, name) for name in table.names]
    hashes = np.stack([folds.thumbnail_hash(_read(path)) for path in paths])
    group = folds.groups(hashes, table.contents)
    held = np.isin(folds.folds(group, kinds.tolist(), _NUMBER, 0), _HELD_OUT)
    fold = np.where(inside, KIND, np.where(held, FOLDS, KNOWN))
    kept = inside | ~np.isin(group, group[inside])
    os.makedirs(out, exist_ok=True)
    rows = [
        (table.names[k], int(fold[k]), kinds[k], int(group[k]), float(table.mos[k]))
        for k in np.flatnonzero(kept)
    ]
    _write(os.path.join(out, "folds.csv"), ("path", "fold", "kind", "group", "mos"), rows)
    rated = [(name, mos, number) for name, fold, _, number, mos in rows if fold == KNOWN]
    _write(os.path.join(out, "rated.csv"), ("path", "mos", "content"), rated)
    asked = [(os.path.abspath(os.path.join(photographs, n)),) for n, f, *_ in rows if f != KNOWN]
    _write(os.path.join(out, "asked.csv"), ("path",), asked)
    return {"known": len(rated), "asked": len(asked), "left out": len(table.names) - len(rows)}


def write_heights(photographs: str, names: Sequence[str], out: str) -> int:
    """Stores some pictures at other heights, as OUT/HEIGHT/NAME.png; returns their number."""
    chosen = sorted(names, key=files.key_hash)[:_STORED]
    for name in chosen:
        picture = Image.fromarray(_read(os.path.join(photographs, name)))
        for height in HEIGHTS:
            path = os.path.join(out, str(height), os.path.splitext(name)[0] + ".png")
            if os.path.exists(path):
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            size = (max(1, round(picture.width * height / picture.height)), height)
            with files.replacing(path) as temporary:
                picture.resize(size, Image.Resampling.BICUBIC).save(temporary, "png")
    return len(chosen)


def _read(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _write(path: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with files.written(path, newline="") as text:
        table = csv_cells.Writer(text)
        table.writerow(header)
        table.writerows(rows)
