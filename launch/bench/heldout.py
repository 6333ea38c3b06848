"""Held-out versions of a corpus, as a student sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vqa_jax.corpus.store import VideoStore
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.jobs.files import CorpusError
from vqa_jax.scoring.engine import VideoInput
from vqa_jax.weights.bundle import StudentSpec


def rows(data: str) -> list[Mapping[str, Any]]:
    """Of the video table: versions that can be told from their source, and sources.

    Raises:
      CorpusError: the corpus has no held-out videos.
    """
    found = [r for r in read_video_table(data) if r["effective"] and r["split"] == "heldout"]
    if not found:
        raise CorpusError(f"{data} has no held-out videos: prepare with --config evaluation")
    return found


def inputs(data: str, versions: list[Mapping[str, Any]], spec: StudentSpec) -> Iterator[VideoInput]:
    """What a student sees of these rows, in order; of a frozen tower the tokens."""
    store = VideoStore(data, spec.extractor, spec.tower)
    for row in versions:
        record, motion = store[row["video_id"]]
        yield VideoInput.of_view(record["frames"], motion, spec)
