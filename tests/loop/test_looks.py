"""Ranges of a corpus: whole segments of one shard with their pairs."""

import numpy as np

from tests.fixtures import tiny_corpus
from vqa_jax.corpus.store import VideoStore
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.loop import looks


def test_ranges_hold_whole_segments_of_one_shard_with_their_pairs(corpus):
    videos = VideoStore(corpus, tiny_corpus.EXTRACTOR)
    rows = list(read_video_table(corpus))
    first = [tiny_corpus.video_id(s, 0) for s in range(14)]
    second = [tiny_corpus.video_id(s, 3) for s in range(14)]
    ranges = looks.segment_ranges(videos, rows[::-1], first, second, most=9)
    assert [k for r in ranges for k in r.video_ids] == sorted(
        (r["video_id"] for r in rows), key=videos.place
    )
    assert max(len(r.video_ids) for r in ranges) == 8  # two segments of four
    for r in ranges:
        assert len({videos.place(key)[0] for key in r.video_ids}) == 1
        assert {key for pair in r.pairs for key in pair} <= set(r.video_ids)
        assert [(first[k], second[k]) for k in r.places] == list(r.pairs)
    assert sorted(np.concatenate([r.places for r in ranges])) == list(range(14))
