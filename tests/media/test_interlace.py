"""Deinterlacing: what is flagged, one frame for one, and nothing else."""

import numpy as np

from tests.fixtures import broken_files, odd_streams
from vqa_jax.media import decode, probe


def _teeth(video):
    """How much neighbouring lines differ more than lines two apart: high where fields are woven."""
    lines = video.astype(int)
    beside = np.abs(lines[:, 1:] - lines[:, :-1]).mean()
    return beside - np.abs(lines[:, 2:] - lines[:, :-2]).mean()


def _bars(num_frames):
    """Soft upright bars that move fast, uint8 [T, 64, 96, 3]: all teeth are of the weaving."""
    phase = 2 * np.pi * (np.arange(96)[None] - 4 * np.arange(num_frames)[:, None]) / 32
    rows = np.repeat((128 + 100 * np.sin(phase))[:, None], 64, 1)
    return np.repeat(rows[..., None], 3, -1).astype(np.uint8)


def test_flagged_frames_are_deinterlaced_one_for_one(tmp_path):
    scene = _bars(24)
    woven = odd_streams.interlaced(tmp_path / "flagged.mkv", scene)
    stored = odd_streams.interlaced(tmp_path / "plain.mkv", scene, flagged=False)
    info = probe.probe(woven)
    assert info.interlaced and info.num_frames == 12 and info.notes == "deinterlaced"
    plain = probe.probe(stored)
    assert not plain.interlaced and plain.notes == "" and plain.num_frames == 12
    smooth, teeth = (decode.read_segment(path, 0, 12) for path in (woven, stored))
    assert _teeth(teeth) > 20 > 10 * _teeth(smooth)
    wanted = scene[1::2]  # of the first field's time: the stream says bottom field first
    assert np.abs(smooth.astype(int) - wanted).mean() < 3
    np.testing.assert_array_equal(decode.read_frames(woven, [7])[0], smooth[7])


def test_times_survive_the_filter(tmp_path):
    path = odd_streams.interlaced(tmp_path / "a.mkv", broken_files.moving_frames(24, 64, 96))
    info = probe.probe(path)
    assert not info.variable_rate and abs(info.fps - 25) < 0.2
    assert len(list(decode.iter_frames(path, None, info))) == info.num_frames
