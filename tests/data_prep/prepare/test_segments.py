"""Segments of a source: where they lie, which simulators they get, files that break off."""

import contextlib
import dataclasses
import pathlib
import resource

import numpy as np
import pytest

from data_prep.inputs.source import Source
from data_prep.prepare import pools, segments, versions
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.media import container


def test_a_file_that_breaks_off_is_used_as_far_as_it_decodes(tmp_path):
    """The probe promised 60 frames, 24 decode: segments of 8 lie in those 24."""
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    honest = _videos(source, prep_corpus.config())
    promised = dataclasses.replace(source.info, num_frames=60)
    source = dataclasses.replace(source, info=promised)
    made = _videos(source, prep_corpus.config())
    for a, b in zip(honest, made, strict=True):
        np.testing.assert_array_equal(a.video["frames"], b.video["frames"])
        assert a.video["start_frame"] == b.video["start_frame"]
    # No whole segment decodes.
    with pytest.raises(container.TruncatedVideoError, match="ends after 24 frames"):
        long = prep_corpus.config(segment_seconds=3.0)
        _videos(source, long)
    # Without a length, all that decodes is the segment.
    whole = prep_corpus.config(segment_seconds=0, segments_per_source=1)
    first = _videos(source, whole)[0]
    assert first.video["num_frames"] == 24


def test_a_pool_gets_its_simulators_and_no_others(tmp_path):
    config = prep_corpus.config(pools=prep_corpus.POOLS, simulators_per_segment=0)
    source = Source("00", "a.mp4", "train", None, (1, 1))

    def names(pool, split="train"):
        made = dataclasses.replace(source, pool=pool, split=split)
        return segments.segment_simulators(made, 0, config)

    assert names("spatial") == ["gaussian_blur"] and names("streaming") == ["h264"]
    assert names(pools.REST) == []
    assert names(pools.ALL, "heldout") == names(pools.ALL) == list(config.simulators)


def test_vmaf_is_measured_of_compression_and_scaling_alone(tmp_path, monkeypatch):
    class Comparison(contextlib.nullcontext):
        def __init__(self, reference, shape, distorted_shape, fps):
            super().__init__()
            assert shape == distorted_shape and fps == source.info.fps
            self.reference = list(reference)
            self.count = 0

        def add(self, frame):
            assert frame.shape == self.reference[self.count].shape
            self.count += 1

        def score(self):
            assert self.count == len(self.reference)
            return 77.0

    monkeypatch.setattr(versions.vmaf, "Comparison", Comparison)
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    names = ("resize", "darken", "h264")
    for asked in (True, False):
        config = prep_corpus.config(
            simulators=names, simulators_per_segment=0, segments_per_source=1, vmaf=asked
        )
        rows = [made.row for made in _videos(source, config)]
        told = {row["simulator"] for row in rows if row.get("vmaf") == 77.0}
        assert told == ({"resize", "h264"} if asked else set())
        assert {row["simulator"] for row in rows} == {"source", *names}


def test_levels_count_that_differ_from_source_and_the_last_that_did(tmp_path, monkeypatch):
    """Looks of a version stand in for its frames: 1 and 3 as the source, 4 as 2."""
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    frames = {0: 10, 1: 10, 2: 40, 3: 10, 4: 40, 5: 70}

    def simulate(given, clip, name, level, seed, h265_preset):
        return (np.full_like(frame, frames[level]) for frame in given), {}

    whole = segments.Segment.frames

    def flat(segment, numbers):
        return (np.full_like(f, frames[0]) for f in whole(segment, numbers))

    monkeypatch.setattr(segments, "simulate", simulate)
    monkeypatch.setattr(segments.Segment, "frames", flat)
    config = prep_corpus.config(
        simulators=("resize",), simulators_per_segment=0, segments_per_source=1
    )
    made = [video.row["effective"] for video in _videos(source, config)]
    assert made == [True, False, True, False, False, True]


def test_what_a_version_left_in_the_heap_is_given_back(tmp_path, monkeypatch):
    """As much as stays between pieces that live on; and after every version."""
    if not pathlib.Path("/proc/self/statm").exists() or not hasattr(segments._LIBC, "malloc_trim"):
        pytest.skip("the C library here gives nothing back")
    pieces = [np.ones(50_000, np.uint8) for _ in range(4000)]  # 200 MB, below what is mapped alone
    last = [np.ones(50_000, np.uint8) for _ in range(2)]  # above them in the heap
    before = _resident()
    del pieces[1::2]  # every second one, so that free parts are nowhere at the end
    held = _resident()
    segments.give_back()
    assert len(last) == 2 and held > before - 10e6 and _resident() < before - 80e6
    calls = []
    monkeypatch.setattr(segments, "give_back", lambda: calls.append(1))
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    config = prep_corpus.config(segments_per_source=1, simulators=("gaussian_blur",))
    assert len(_videos(source, config)) == len(calls) + 1 == 6


def _resident():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _videos(source, config):
    """All videos of a source, without their clips."""
    parts = segments.prepare_source(source.location, source, config)
    return [part for part in parts if not isinstance(part, tuple)]


@pytest.mark.parametrize(
    ("num_frames", "length", "count", "wanted"),
    [(100, 20, 3, [0, 40, 80]), (100, 20, 1, [40]), (20, 20, 4, [0]), (22, 20, 9, [0, 1, 2])],
)
def test_segments_are_spread_without_repeats(num_frames, length, count, wanted):
    assert segments.segment_starts(num_frames, length, count) == wanted
