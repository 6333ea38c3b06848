"""Views that a corpus keeps: those of the file, and of every version as its frames come."""

import contextlib

import numpy as np
import pytest

from data_prep.prepare import buckets, footage, segments, versions
from data_prep.simulators import SIMULATORS
from tests.fixtures import broken_files, prep_corpus, simulated
from vqa_jax.corpus import view_coding
from vqa_jax.media.probe import probe
from vqa_jax.teachers import looks, views

TEACHERS = ("dover",)
NAMES = looks.needed(TEACHERS)


@pytest.fixture
def source(tmp_path):
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    return source


def _made(source, **changes):
    config = prep_corpus.config(
        segment_seconds=0.0, segments_per_source=1, window=(0, 0), **changes
    )
    parts = segments.prepare_source(source.location, source, config)
    return {video.video["video_id"]: (video, clips) for video, clips in buckets.gathered(parts)}


def _planned(source, seed):
    key = views.video_seed(seed, source.path)
    return lambda info: {name: looks.VIEWS[name](info, key) for name in NAMES}


def test_what_is_kept_of_a_source_is_what_is_cut_from_its_file(source, monkeypatch):
    monkeypatch.setattr(versions, "_PIECE_BYTES", 5000)  # several of every view
    made = _made(source, teacher_views=TEACHERS, simulators=("stutter",), seed=3)
    video, _ = next(found for key, found in made.items() if "-source-0" in key)
    wanted, _ = views.read_views(probe(source.location), _planned(source, 3))
    assert video.views.keys() == {looks.dataset(name) for name in NAMES}
    for name in NAMES:
        record = video.views[looks.dataset(name)]
        assert (record["video_id"], record["view"]) == (video.video["video_id"], name)
        np.testing.assert_array_equal(view_coding.decode(record), wanted[name], err_msg=name)


def test_versions_are_cut_where_their_source_is(source):
    names = ("gaussian_blur", "h264")  # of the frames that are looked at, and of all
    made = _made(source, teacher_views=TEACHERS, simulators=names, simulators_per_segment=0)
    info = probe(source.location)
    with contextlib.ExitStack() as stack:
        (segment,) = footage.segments(source.location, source, [0], info.num_frames, (0, 0), stack)
        frames = np.stack(list(segment.frames()))
    planned = _planned(source, 3)(info)
    for key, (video, _) in made.items():
        name, level = video.video["simulator"], video.video["level"]
        if not level:
            continue
        seed = segments.key_hash(f"3:{source.source_id}:0:{name}") % 2**32
        preset = "ultrafast"
        version, _ = simulated.simulated(frames, info.fps, name, level, seed, preset)
        for view, plan in planned.items():
            cut = [plan.cut(k, version[number]) for k, number in enumerate(plan.numbers)]
            kept = view_coding.decode(video.views[looks.dataset(view)])
            np.testing.assert_array_equal(kept, np.stack(cut), err_msg=f"{key} {view}")
    assert len(made) == 1 + sum(len(SIMULATORS[name].parameters) for name in names)


def test_all_else_stays_as_it_is_without_them(source):
    plain, keeping = (
        _made(source, teacher_views=names, simulators=("stutter",)) for names in ((), TEACHERS)
    )
    assert plain.keys() == keeping.keys()
    for key, (video, clips) in plain.items():
        other, other_clips = keeping[key]
        assert not video.views and clips == other_clips and video.row == other.row
        np.testing.assert_array_equal(video.video["frames"], other.video["frames"])
