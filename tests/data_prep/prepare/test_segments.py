"""Segments of a source: where they lie, which simulators they get, files that break off."""

import dataclasses

import numpy as np
import pytest

from data_prep.inputs.source import Source
from data_prep.prepare import pools, segments
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.media import container


def test_a_file_that_breaks_off_is_used_as_far_as_it_decodes(tmp_path):
    """The probe promised 60 frames, 24 decode: segments of 8 lie in those 24."""
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    honest = segments.prepare_source(source.location, source, prep_corpus.config())
    promised = dataclasses.replace(source.info, num_frames=60)
    source = dataclasses.replace(source, info=promised)
    made = segments.prepare_source(source.location, source, prep_corpus.config())
    for a, b in zip(honest, made, strict=True):
        np.testing.assert_array_equal(a.video["frames"], b.video["frames"])
        assert a.video["start_frame"] == b.video["start_frame"]
    # No whole segment decodes.
    with pytest.raises(container.TruncatedVideoError, match="ends after 24 frames"):
        long = prep_corpus.config(segment_seconds=3.0)
        list(segments.prepare_source(source.location, source, long))
    # Without a length, all that decodes is the segment.
    whole = prep_corpus.config(segment_seconds=0, segments_per_source=1)
    first = next(segments.prepare_source(source.location, source, whole))
    assert first.video["num_frames"] == 24


def test_a_segment_larger_than_memory_is_refused_with_the_remedy(tmp_path, monkeypatch):
    broken_files.encode(tmp_path / "a.mp4")
    monkeypatch.setattr(segments, "_MAX_DECODED_BYTES", 2 * 8 * 48 * 64 * 3 - 1)
    with pytest.raises(container.MediaError, match="segment_seconds"):
        (source,) = prep_corpus.sources(tmp_path, "a.mp4")
        next(segments.prepare_source(source.location, source, prep_corpus.config()))


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
    def measured(reference, distorted, fps):
        assert reference.shape == distorted.shape and fps == source.info.fps
        return 77.0

    monkeypatch.setattr(segments.vmaf, "vmaf", measured)
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    names = ("resize", "darken", "h264")
    for asked in (True, False):
        config = prep_corpus.config(
            simulators=names, simulators_per_segment=0, segments_per_source=1, vmaf=asked
        )
        rows = [made.row for made in segments.prepare_source(source.location, source, config)]
        told = {row["simulator"] for row in rows if row.get("vmaf") == 77.0}
        assert told == ({"resize", "h264"} if asked else set())
        assert {row["simulator"] for row in rows} == {"source", *names}


@pytest.mark.parametrize(
    ("num_frames", "length", "count", "wanted"),
    [(100, 20, 3, [0, 40, 80]), (100, 20, 1, [40]), (20, 20, 4, [0]), (22, 20, 9, [0, 1, 2])],
)
def test_segments_are_spread_without_repeats(num_frames, length, count, wanted):
    assert segments.segment_starts(num_frames, length, count) == wanted
