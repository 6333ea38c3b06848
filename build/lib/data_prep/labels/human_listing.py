"""Videos with human scores as a listing for `data_prep.prepare.job`, split by content.

    python -m data_prep human-listing --config finetune --videos DIR --out DIR \
        --mos KoNViD-1k=FILE [--mos NAME=FILE ...] [--heldout 0.2] [-- BEAM_OPTION ...]

Writes `listing.csv` (path, source = set, split), and each set's labels twice, under the listing's
paths: `labels/NAME.csv` whole, for pairs, and `heldout/NAME.csv`, for `vqa_jax benchmark`.

What a video shows is told by its name where the benchmark's names do (Waterloo's HEVC_01_... and
AVS2_01_... are one content); besides, files that `deduplicate` would call copies of each other,
also those of different sets, count as one content. No content is in both splits.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from absl import logging
from scipy import sparse

from data_prep.inputs.deduplicate import Fingerprint, near_pairs
from data_prep.inputs.listing import Input, absolute, file_stamps
from data_prep.prepare.config import PrepConfig
from data_prep.prepare.pools import assign_splits
from data_prep.prepare.probing import probe_inputs, read_probed
from vqa_jax.benchmarks import doctor, sets
from vqa_jax.benchmarks.labels import Labels, LabelsError, label_files, read_labels
from vqa_jax.benchmarks.sets import Benchmark, BenchmarkError
from vqa_jax.jobs import csv_cells, files

LISTING = "listing.csv"


@dataclasses.dataclass(frozen=True)
class LabelledVideo:
    """One video with a human score.

    Attributes:
      set_name: its set.
      row: its place among the set's labels.
      content: key of what it shows, within the set.
      file: path.
    """

    set_name: str
    row: int
    content: str
    file: str


def find_videos(benchmark: Benchmark, labels: Labels, folder: str) -> list[LabelledVideo]:
    """Files of a set's labels; those without one, or with several, are left out with a warning.

    Args:
      benchmark: the set, for its rules of names.
      labels: its labels.
      folder: looked through, or only its subfolder called after the set, if there is one.

    Raises:
      BenchmarkError: no file fits any label.
    """
    own = os.path.join(folder, benchmark.name)
    folder = own if os.path.isdir(own) else folder
    paths = doctor.video_files(folder)
    below = [os.path.relpath(path, folder) for path in paths]
    found = sets.match(benchmark, labels.names, below).found
    videos = [
        LabelledVideo(benchmark.name, row, benchmark.content_key(labels.names[row]), paths[k])
        for row, k in enumerate(found)
        if k is not None
    ]
    if not videos:
        raise BenchmarkError(
            f"{benchmark.name}: none of {len(paths)} videos below {folder} fits a label, such as "
            f"{labels.names[0]!r}: `python -m vqa_jax doctor` says more"
        )
    if len(videos) < len(found):
        logging.warning(
            "%s: %d of %d videos are missing or ambiguous, and left out",
            benchmark.name,
            len(found) - len(videos),
            len(found),
        )
    return videos


def content_groups(
    videos: Sequence[LabelledVideo], fingerprints: Mapping[str, Fingerprint]
) -> np.ndarray:
    """Numbers int [N] of groups: videos of one number show the same, by name or by their frames.

    Args:
      videos: of any sets.
      fingerprints: file -> fingerprint; files without one are told by name alone.
    """
    count = len(videos)
    edges: list[tuple[int, int]] = []
    first: dict[tuple[str, ...], int] = {}
    for place, video in enumerate(videos):
        keys: list[tuple[str, ...]] = [("content", video.set_name, video.content)]
        known = fingerprints.get(video.file)
        if known is not None:
            keys.append(("bytes", str(known.size), known.digest))
        edges += [(place, first.setdefault(key, place)) for key in keys]
    seen = [k for k, video in enumerate(videos) if video.file in fingerprints]
    if seen:
        hashes = np.array([fingerprints[videos[k].file].hashes for k in seen], np.uint64)
        one, other, _ = near_pairs(hashes)
        edges += [(seen[a], seen[b]) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
    a, b = np.array(edges, np.int64).reshape(-1, 2).T
    graph = sparse.coo_array((np.ones(len(a), bool), (a, b)), shape=(count, count))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def split_by_content(
    videos: Sequence[LabelledVideo], groups: np.ndarray, heldout: float
) -> list[str]:
    """Split of every video: in each set this share of its groups, by key hash, is held out.

    A group that is in several sets is where the first of them, by name, puts it. The choice depends
    on names only, not on the videos' order or folder.
    """
    if not 0 < heldout < 1:
        raise ValueError(f"--heldout {heldout} is not between 0 and 1")
    keys: dict[int, str] = {}
    for video, group in zip(videos, groups.tolist(), strict=True):
        name = f"{video.set_name}/{video.content}"
        keys[group] = min(name, keys.get(group, name))
    splits: dict[str, str] = {}
    for name in sorted({video.set_name for video in videos}):
        mine = {
            keys[group]
            for video, group in zip(videos, groups.tolist(), strict=True)
            if video.set_name == name
        }
        splits.update(assign_splits({key: splits.get(key, "") for key in mine}, heldout))
    return [splits[keys[group]] for group in groups.tolist()]


def make_listing(
    folder: str,
    label_specs: Sequence[str],
    out: str,
    config: PrepConfig,
    heldout: float,
    beam_args: Sequence[str] = (),
) -> dict[str, dict[str, int]]:
    """Finds, groups and splits the labelled videos, and writes listing and labels.

    Args:
      folder: where the videos are, see `find_videos`.
      label_specs: label files, see `benchmarks.labels.label_files`.
      out: folder to write.
      config: limits under which files are opened.
      heldout: share of each set's contents that is held out.
      beam_args: Beam options.

    Returns:
      Set -> {"train", "heldout": videos, "contents": groups}.

    Raises:
      LabelsError, BenchmarkError: labels that cannot be read, or fit no file.
      work.UnfinishedWorkError: the runner lost units.
      ValueError: `heldout` is no share.
    """
    labels: dict[str, Labels] = {}
    videos: list[LabelledVideo] = []
    for spec, path in sorted(label_files(label_specs).items()):
        benchmark = sets.known_or_own(spec)
        if benchmark.name in labels:
            raise LabelsError(f"two label files for {benchmark.name}: {path} is one of them")
        labels[benchmark.name] = read_labels(path)
        videos += find_videos(benchmark, labels[benchmark.name], folder)
    groups = content_groups(videos, _fingerprints(videos, out, config, beam_args))
    splits = split_by_content(videos, groups, heldout)
    names = [os.path.relpath(video.file, out) for video in videos]
    with files.written(os.path.join(out, LISTING), newline="") as file:
        writer = csv_cells.Writer(file)
        writer.writerow(["path", "source", "split"])
        writer.writerows(_once(zip(names, (v.set_name for v in videos), splits, strict=True)))
    counts = {}
    for name, known in labels.items():
        mine = [k for k, video in enumerate(videos) if video.set_name == name]
        held = [k for k in mine if splits[k] == "heldout"]
        for part, places in (("labels", mine), ("heldout", held)):
            _write_labels(os.path.join(out, part, f"{name}.csv"), known, videos, names, places)
        counts[name] = {
            "train": len(mine) - len(held),
            "heldout": len(held),
            "contents": len({int(groups[k]) for k in mine}),
        }
    return counts


def _fingerprints(
    videos: Sequence[LabelledVideo], out: str, config: PrepConfig, beam_args: Sequence[str]
) -> dict[str, Fingerprint]:
    work = os.path.join(out, "work")
    os.makedirs(work, exist_ok=True)
    paths = sorted({absolute(video.file) for video in videos})
    entries = [Input(path, path) for path in paths]
    near = dataclasses.replace(config, deduplicate="near")
    probed = probe_inputs(entries, file_stamps(entries), work, near, beam_args)
    found = {
        row.entry.path: row.fingerprint
        for row in read_probed(probed)
        if row.fingerprint is not None
    }
    if len(found) < len(paths):
        logging.warning("%d of %d files cannot be opened", len(paths) - len(found), len(paths))
    return {v.file: found[p] for v in videos if (p := absolute(v.file)) in found}


def _once(rows: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """A file that two sets label is listed once, as the first one's: a path has one record."""
    by_path: dict[str, tuple[str, str, str]] = {}
    for row in rows:
        by_path.setdefault(row[0], row)
    return sorted(by_path.values())


def _write_labels(
    path: str,
    labels: Labels,
    videos: Sequence[LabelledVideo],
    names: Sequence[str],
    places: Sequence[int],
) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with files.written(path, newline="") as file:
        writer = csv_cells.Writer(file)
        writer.writerow(["video", "mos", "mos_std", "num_ratings"])
        for place in places:
            row = videos[place].row
            spread = (labels.std[row], labels.ratings[row])
            cells = ["" if np.isnan(x) else repr(float(x)) for x in spread]
            writer.writerow([names[place], repr(float(labels.mos[row])), *cells])
