"""A corpus under other splits: the same records, some of its rows, other sources held out.

    python -m data_prep split --data CORPUS --out DIR --folds oof.csv --heldout 8,9 \
        [--without h265,haze]

Records are not copied: their folders are links. What networks made of them serves as it is, so that
a student can be trained and asked again on other contents, or without a simulator, in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from absl import logging

from data_prep.simulators import SIMULATORS
from vqa_jax.corpus import video_table
from vqa_jax.corpus.shards import DATASETS, MANIFEST
from vqa_jax.jobs import files
from vqa_jax.settings import SettingsError
from vqa_jax.teachers.light.folds import FoldTable, read_folds

_SIDECARS = ("motion.json", "tokens.json")
_KEPT = ("vqa_videos", "vqa_motion", "vqa_tokens", "tower.safetensors")


def resplit(
    data: str,
    out: str,
    folds: str,
    heldout: Collection[int],
    without: Sequence[str] = (),
    plain: Collection[int] = (),
) -> dict[str, Any]:
    """Writes the corpus `out`; returns its manifest. One that is there already is kept.

    Args:
      data: a corpus that is finished.
      out: folder to write.
      folds: table of pictures (path, fold), as `teachers fit` writes it. A source is in the fold of
        the picture whose name it goes on from; sources of none of them are left out.
      heldout: folds whose sources are held out; the others' are trained on.
      without: simulators whose versions are not trained on, and so are held out alone.
      plain: held-out folds of which only still pictures are kept, undistorted: enough for scores
        of pictures, and a fraction of the work.

    Raises:
      files.CorpusError: the corpus is unfinished, or `out` holds another one.
      SettingsError: an unknown simulator, or nothing is left to train on, or to ask about.
    """
    if unknown := sorted(set(without) - set(SIMULATORS)):
        raise SettingsError(f"no simulators {', '.join(unknown)}; known: {', '.join(SIMULATORS)}")
    whole = files.read_json(
        os.path.join(data, MANIFEST),
        {"video_table_sha256": str, "datasets": DATASETS, "counts": dict},
    )
    identity = {
        "corpus": whole["video_table_sha256"],
        "folds": files.file_sha256(folds),
        "heldout": sorted(heldout),
        "without": sorted(without),
        "plain": sorted(plain),
    }
    target = os.path.join(out, MANIFEST)
    if os.path.exists(target):
        found = files.read_json(target, dict)
        if found.get("part_of") != identity:
            raise files.CorpusError(f"{out} holds another corpus: choose another --out")
        return found
    table = video_table.read_video_table(data)
    rows = [*_rows(table, read_folds(folds), set(heldout), set(without), set(plain))]
    splits = [row["split"] for row in rows]
    if {*splits} != {"train", "heldout"}:
        raise SettingsError(
            f"{folds}: {splits.count('train')} videos to train on and {splits.count('heldout')} "
            f"held out of {len(table)}: does it name pictures of {data}, in folds {heldout}?"
        )
    os.makedirs(out, exist_ok=True)
    views = [name for name, entry in whole["datasets"].items() if entry["kind"] == "vqa_views"]
    for name in filter(lambda name: os.path.exists(os.path.join(data, name)), [*_KEPT, *views]):
        link = os.path.join(out, name)
        if not os.path.lexists(link):
            os.symlink(os.path.abspath(os.path.join(data, name)), link)
    digest = video_table.write_video_table(out, rows)
    for name in _SIDECARS:
        if os.path.exists(os.path.join(data, name)):
            told = files.read_json(os.path.join(data, name), {"identity": dict})
            told["identity"] = {**told["identity"], "corpus": digest}
            files.write_sealed(os.path.join(out, name), told)
    counts = {**whole["counts"], "videos": len(rows)}
    manifest = {**whole, "counts": counts, "video_table_sha256": digest, "part_of": identity}
    files.write_sealed(target, manifest)
    logging.info("%s: %s", out, {split: splits.count(split) for split in ("train", "heldout")})
    return manifest


def _rows(
    table: video_table.VideoTable,
    folds: FoldTable,
    heldout: set[int],
    without: set[str],
    plain: set[int],
) -> Iterator[dict[str, Any]]:
    """Rows of the part, with their new splits."""
    for row in table:
        fold = folds.of(row["path"])
        if fold is None or (fold not in heldout and row["simulator"] in without):
            continue
        if fold in plain and (row["level"] or row["num_frames"] > 1):
            continue
        yield {**row, "split": "heldout" if fold in heldout else "train"}
