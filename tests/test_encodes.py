"""Encodes of a source: what is planned, made, used again, taken as it is, and measured."""

import os

import pytest

from tests.fixtures import tiny_corpus
from vqa_jax import encodes
from vqa_jax.media.probe import probe
from vqa_jax.scoring.ladder import Encode
from vqa_jax.settings import DEFAULT_LIMITS, SettingsError


def test_quality_settings_are_ranges_or_lists():
    assert encodes.crfs("18:50:4") == [18, 22, 26, 30, 34, 38, 42, 46, 50]
    assert encodes.crfs("40,18.5,24,18.5") == [18.5, 24, 40]
    for text in ("", "a", "1:2", "5:1:1", "1:9:0", "-1", "0:1e9:1", "nan", "1,,2", "inf"):
        with pytest.raises(SettingsError, match="FIRST:LAST:STEP"):
            encodes.crfs(text)


def test_encoders_have_presets_and_ends():
    plan = encodes.planned("x264:slow,svtav1", "30,51")
    assert [(name, crf) for name, crf, _ in plan] == [
        ("x264:slow", 30),
        ("x264:slow", 51),
        ("svtav1", 30),
        ("svtav1", 51),
    ]
    assert plan[0][2].preset == "slow" and plan[0][2].mbtree and plan[2][2].codec == "av1"
    with pytest.raises(SettingsError, match="one of x264, x265, svtav1, vp9"):
        encodes.planned("h264", "30")
    with pytest.raises(SettingsError, match="x264 ends at 51"):
        encodes.planned("svtav1,x264", "30,63")


def test_encodes_are_of_the_part_kept_and_told_with_their_bits(tmp_path, monkeypatch):
    source = probe(tiny_corpus.write_video(str(tmp_path / "source.mp4"), 0))
    plan = encodes.planned("x264:ultrafast", "20,45")
    folder = str(tmp_path / "encodes")
    found = encodes.make(source, (5, 15), plan, folder, DEFAULT_LIMITS)
    assert [e.name for e in found] == ["x264:ultrafast 20", "x264:ultrafast 45"]
    info = probe(found[0].path)
    assert (
        info.num_frames == 10 and info.fps == source.fps and (info.width, info.height) == (64, 48)
    )
    assert found[0].kbps > 2 * found[1].kbps > 0
    # The pictures' bits alone: less than the file's.
    assert found[0].kbps * 1000 / 8 * info.duration < os.path.getsize(found[0].path)
    times = {e.path: os.stat(e.path).st_mtime_ns for e in found}
    again = encodes.make(source, (5, 15), plan, folder, DEFAULT_LIMITS)
    assert again == found and times == {e.path: os.stat(e.path).st_mtime_ns for e in found}
    other = encodes.make(source, (0, 10), plan[:1], folder, DEFAULT_LIMITS)
    assert other[0].path not in times

    monkeypatch.setattr(encodes.vmaf, "ffmpeg", lambda: "/bin/false")  # and goes on without
    told = encodes.measured(source, 5, [*found, Encode("gone", "gone", "h264")], DEFAULT_LIMITS)
    good, bad = (told[e.name] for e in found)
    assert list(good) == ["psnr", "ssim"] and "gone" not in told
    assert all(good[name]["mean"] > bad[name]["mean"] for name in good)


def test_given_files_are_called_by_what_they_hold(tmp_path):
    path = tiny_corpus.write_video(str(tmp_path / "a.mp4"), 0)
    found = encodes.given(path, "a.mp4", DEFAULT_LIMITS)
    assert (found.codec, found.crf, found.error) == ("h264", None, None) and found.kbps > 0
    (tmp_path / "text.mp4").write_text("no video")
    bad = encodes.given(str(tmp_path / "text.mp4"), "text.mp4", DEFAULT_LIMITS)
    assert "media file" in bad.error and bad.kbps is None
