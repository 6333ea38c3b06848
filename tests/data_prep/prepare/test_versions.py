"""Records of one version: as of all its frames at once; what is shown again is looked at once."""

import contextlib

import numpy as np
import pytest

from data_prep.prepare import buckets, footage, versions
from tests.fixtures import broken_files, prep_corpus
from vqa_jax.corpus import schemas
from vqa_jax.media import view
from vqa_jax.teachers import measures


@pytest.fixture
def segment(tmp_path):
    broken_files.encode(tmp_path / "a.mp4")
    (source,) = prep_corpus.sources(tmp_path, "a.mp4")
    with contextlib.ExitStack() as stack:
        yield footage.segments(source.location, source, [0], 24, (0, 0), stack)[0]


def _made(frames, segment, config, alike=(), **options):
    described = {"video_id": "v"}
    parts = versions.prepare_version(
        *(frames, range(24), segment, described, config, alike), **options
    )
    ((video, record),) = buckets.gathered(parts)
    return video, schemas.deserialize("vqa_clips", record)["clips"]


def test_a_version_is_what_all_its_frames_make(segment, monkeypatch):
    monkeypatch.setattr(versions, "_PIECE_BYTES", 2000)
    config = prep_corpus.config(teachers=tuple(measures.names()))
    frames = np.stack(list(segment.frames()))
    video, clips = _made(iter(frames), segment, config)
    fps, pre = segment.clip.fps, config.preprocess
    keys = view.key_frame_indices(24, fps)
    np.testing.assert_array_equal(video.video["frames"], view.view_frames(frames[keys], pre))
    np.testing.assert_array_equal(clips, view.motion_clips(frames, fps, pre))
    wanted = {name: measures.get(name).score(frames) for name in measures.names()}
    assert video.row["scores"] == wanted
    assert video.video["effective"] is video.row["effective"] is True


def test_frames_that_nobody_looks_at_are_not_needed(segment):
    config = prep_corpus.config(teachers=("sharpness",))
    numbers = versions.looked_at(segment, config)
    assert len(numbers) < 24
    parts = [
        list(versions.prepare_version(segment.frames(n), n, segment, {"video_id": "v"}, config, ()))
        for n in (numbers, range(24))
    ]
    (few, a), (whole, b) = parts
    assert few == whole and a.row == b.row
    np.testing.assert_array_equal(a.video["frames"], b.video["frames"])
    np.testing.assert_array_equal(a.clip_order, b.clip_order)


def test_a_frame_that_is_held_is_looked_at_once(segment, monkeypatch):
    looked = []
    real = view.motion_picture
    monkeypatch.setattr(view, "motion_picture", lambda f, pre: looked.append(1) or real(f, pre))
    frames = list(segment.frames())
    held = [frames[k - k % 4] for k in range(24)]
    _, clips = _made(iter(held), segment, prep_corpus.config())
    assert len(looked) <= 6
    np.testing.assert_array_equal(
        clips, view.motion_clips(np.stack(held), segment.clip.fps, prep_corpus.config().preprocess)
    )


@pytest.mark.parametrize(
    ("hold", "grain", "effective"),
    [(1, 0, True), (10, 0, True), (20, 0, False), (24, 1, False), (24, 60, True)],
)
def test_a_pause_is_a_flaw_only_of_what_moves(segment, hold, grain, effective):
    """Frames that brighten by 2 levels each after `hold` of 24, with grain in a twentieth."""
    rng = np.random.default_rng(0)
    shape = (segment.clip.height, segment.clip.width, 3)
    shown = [100 + 2 * max(0, k - hold) for k in range(24)]
    frames = [(level + grain * (rng.random(shape) < 0.05)).astype(np.uint8) for level in shown]
    config = prep_corpus.config()
    video, _ = _made(iter(frames), segment, config, of_motion=True)
    assert video.row["effective"] is effective
    video, _ = _made(iter(frames), segment, config)
    assert video.row["effective"] is True


def test_a_teacher_of_ones_own_sees_all_frames(segment, monkeypatch):
    class Mine:
        name = "mine"
        higher_is_better = True

        def score(self, frames):
            return float(frames.shape[0])

    monkeypatch.setitem(measures._REGISTRY, "mine", Mine())
    video, _ = _made(segment.frames(), segment, prep_corpus.config(teachers=("mine",)))
    assert video.row["scores"] == {"mine": 24.0}


def test_looks_tell_versions_apart_by_pictures_and_by_clips(segment):
    config = prep_corpus.config()

    def digest(frames):
        parts = versions.prepare_version(frames, range(24), segment, {"video_id": "v"}, config, ())
        while True:
            try:
                next(parts)
            except StopIteration as end:
                return end.value

    frames = list(segment.frames())
    assert digest(iter(frames)) == digest(segment.frames())
    moved = view.motion_clip_indices(24, segment.clip.fps, clip_len=8, min_clips=1, max_clips=2)
    keys = set(view.key_frame_indices(24, segment.clip.fps))
    last = max(set(moved.ravel().tolist()) - keys)
    other = [255 - f if k == last else f for k, f in enumerate(frames)]
    assert digest(iter(other)) != digest(iter(frames))
    assert not _made(iter(frames), segment, config, [digest(iter(frames))])[0].row["effective"]
