"""A student's look at videos and pairs of a corpus, range by range (see `jobs.ranges`).

A range holds whole segments of one shard, from an offset on, with the pairs among them; what does
not fit a shard's last range starts no other shard's. Every range makes its own calls of the engine:
no batch spans two, so that the numbers do not depend on who computes which.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from absl import logging
from google.protobuf.message import DecodeError
from pyarrow import parquet
from tqdm import tqdm

from vqa_jax.corpus.store import VideoStore
from vqa_jax.jobs import ranges
from vqa_jax.jobs.files import CorpusError, replacing
from vqa_jax.jobs.ranges import Share
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.scoring.engine import EncodedVideo, Engine, VideoInput
from vqa_jax.scoring.judge import Judge
from vqa_jax.settings import VIDEOS_A_RANGE

_TRIED = 8  # videos of which one must be readable before the work starts
_UNREADABLE = (CorpusError, DecodeError, KeyError, RuntimeError, ValueError)
_NUMBERS = ("score", "std", "q", "q_std")
_VIDEO_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        *((name, pa.float64()) for name in _NUMBERS),
        ("notes", pa.string()),
        ("error", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Range:
    """Videos that are encoded together and the pairs among them.

    Attributes:
      video_ids: keys of the videos.
      pairs: (first, second) keys.
      places: int [pairs], where each pair stands among all of the job.
    """

    video_ids: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    places: np.ndarray


@dataclasses.dataclass(frozen=True)
class Looks:
    """What the student said, of all ranges.

    Attributes:
      videos: `video_id`, `score`, `std`, `q`, `q_std` (null if not wanted), `notes` ("" or what
        there is to know of the score) and `error`.
      forward: level logits [pairs, 5] as given; NaN where a video could not be read.
      backward: level logits [pairs, 5] of the swapped pairs.
    """

    videos: pa.Table
    forward: np.ndarray
    backward: np.ndarray


def check_readable(videos: VideoStore, video_ids: Sequence[str]) -> None:
    """Tries some videos before the work.

    Raises:
      CorpusError: none of them can be read: the corpus does not fit this student.
    """
    tried = video_ids[:: max(1, len(video_ids) // _TRIED)]
    first: Exception | None = None
    for key in tried:
        try:
            videos[key]
        except _UNREADABLE as error:
            first = first or error
        else:
            return
    if isinstance(first, CorpusError):
        raise first
    if first is not None:
        raise CorpusError(f"none of {len(tried)} videos can be read: {first!r}") from first


def segment_ranges(
    videos: VideoStore,
    rows: Sequence[Mapping[str, Any]],
    first_ids: Sequence[str],
    second_ids: Sequence[str],
    most: int = VIDEOS_A_RANGE,
) -> list[Range]:
    """Cuts videos, in the order of their records, at shards and at segments.

    Args:
      videos: of the corpus.
      rows: of the video table.
      first_ids: of pairs inside segments.
      second_ids: the same.
      most: videos of a range; a segment with more is a range by itself.
    """
    segment_of = {r["video_id"]: (r["source_id"], r["segment"]) for r in rows}
    members: dict[tuple[str, int], list[str]] = {}
    for key in sorted(segment_of, key=videos.place):
        members.setdefault(segment_of[key], []).append(key)
    cut: list[list[str]] = []
    range_of: dict[tuple[str, int], int] = {}
    shard = -1
    for segment, keys in members.items():
        start = videos.place(keys[0])[0]
        if start != shard or len(cut[-1]) + len(keys) > most:
            cut.append([])
        shard = start
        cut[-1].extend(keys)
        range_of[segment] = len(cut) - 1
    places: list[list[int]] = [[] for _ in cut]
    for place, key in enumerate(first_ids):
        places[range_of[segment_of[key]]].append(place)
    return [
        Range(
            tuple(keys),
            tuple((first_ids[p], second_ids[p]) for p in at),
            np.array(at, np.int64),
        )
        for keys, at in zip(cut, places, strict=True)
    ]


def pair_ranges(pairs: Sequence[tuple[str, str]], most: int = VIDEOS_A_RANGE) -> list[Range]:
    """Cuts pairs of any videos into ranges of at most `most` videos."""
    step = max(1, most // 2)
    return [
        Range(
            tuple(sorted({key for pair in part for key in pair})),
            tuple(part),
            np.arange(start, start + len(part)),
        )
        for start in range(0, len(pairs), step)
        for part in [pairs[start : start + step]]
    ]


class RangeJob:
    """Files of ranges in one folder: computes them, and reads them when all are there."""

    def __init__(self, folder: str, name: str, parts: Sequence[Range]):
        """Names the files `name`-N below `folder`."""
        self._ranges, self._name = parts, name
        self._stems = [os.path.join(folder, f"{name}-{k:06d}") for k in range(len(parts))]

    @property
    def paths(self) -> list[str]:
        """The file of each range that is written last."""
        return [ranges.mark_of(path) for path in self._tables]

    @property
    def _tables(self) -> list[str]:
        return [f"{stem}.videos.parquet" for stem in self._stems]

    def run(self, judge: Judge, videos: VideoStore, share: Share, scores: bool = True) -> int:
        """Computes this process's ranges that are not there; `scores`: of the videos, too.

        Returns:
          How many ranges other processes still have to compute.
        """

        def make(k: int, bar: tqdm) -> None:
            tables = _look(judge, videos, self._ranges[k], bar, scores)
            paths = [f"{self._stems[k]}.{kind}.parquet" for kind in ("pairs", "videos")]
            for table, path in zip(tables, paths, strict=True):
                with replacing(path) as temporary:
                    parquet.write_table(table, temporary)
            ranges.mark(*paths)

        sizes = [len(r.video_ids) for r in self._ranges]
        tables = self._tables
        return ranges.compute(
            sizes, self.paths, make, share, self._name, lambda k: ranges.is_whole(tables[k])
        )

    def looks(self) -> Looks:
        """All ranges together; they must be there.

        Raises:
          CorpusError: one is damaged.
        """
        ranges.check(self._tables)
        count = sum(len(r.places) for r in self._ranges)
        forward, backward = (np.full((count, len(LEVELS)), np.nan) for _ in range(2))
        for r, stem in zip(self._ranges, self._stems, strict=True):
            table = parquet.read_table(f"{stem}.pairs.parquet")
            for name, target in (("forward", forward), ("backward", backward)):
                column = table.column(name).combine_chunks().flatten().to_numpy()
                target[r.places] = column.reshape(-1, len(LEVELS))
        tables = [parquet.read_table(path, schema=_VIDEO_SCHEMA) for path in self._tables]
        table = pa.concat_tables(tables) if tables else _VIDEO_SCHEMA.empty_table()
        return Looks(table, forward, backward)


def _look(
    judge: Judge, videos: VideoStore, part: Range, bar: tqdm, scores: bool
) -> tuple[pa.Table, pa.Table]:
    """(pairs, videos) of one range."""
    encoded, errors = _encode(judge.engine, videos, part.video_ids, bar)
    numbers = {name: dict.fromkeys(part.video_ids) for name in _NUMBERS}
    notes = dict.fromkeys(part.video_ids, "")
    if scores:
        for key, verdict in zip(encoded, judge.score(list(encoded.values())), strict=True):
            for name in _NUMBERS:
                numbers[name][key] = getattr(verdict.score, name)
            notes[key] = verdict.note
    logits = np.full((2, len(part.pairs), len(LEVELS)), np.nan)
    good = [i for i, (a, b) in enumerate(part.pairs) if a in encoded and b in encoded]
    if good:
        chosen = [(encoded[a], encoded[b]) for a, b in (part.pairs[i] for i in good)]
        logits[0, good] = judge.engine.compare(chosen)
        logits[1, good] = judge.engine.compare([(b, a) for a, b in chosen])
    forward, backward = (
        pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), len(LEVELS)) for x in logits
    )
    said = {name: list(column.values()) for name, column in numbers.items()}
    rows = {
        "video_id": list(part.video_ids),
        **said,
        "notes": list(notes.values()),
        "error": [errors.get(key) for key in part.video_ids],
    }
    return (
        pa.table({"forward": forward, "backward": backward}),
        pa.table(rows, schema=_VIDEO_SCHEMA),
    )


def _encode(
    engine: Engine, videos: VideoStore, video_ids: Sequence[str], bar: tqdm
) -> tuple[dict[str, EncodedVideo], dict[str, str]]:
    """(encoded videos, why the others could not be read)."""
    good: list[str] = []
    errors: dict[str, str] = {}

    def inputs() -> Iterator[VideoInput]:
        for key in video_ids:
            try:
                record, features = videos[key]
                made = VideoInput.of_view(record["frames"], features, engine.spec)
            except _UNREADABLE as error:  # one odd record must not end the job
                logging.warning("%s: %r", key, error)
                known = isinstance(error, CorpusError)
                errors[key] = str(error) if known else f"{type(error).__name__}: {error}"
            else:
                good.append(key)
                yield made
            bar.update()

    encoded = list(engine.encode(inputs()))
    return dict(zip(good, encoded, strict=True)), errors
