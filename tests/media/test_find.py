"""Finding videos in folders, globs and names."""

import dataclasses
import errno
import os
from unittest import mock

import pytest

from tests.fixtures.broken_files import encode, moving_frames
from vqa_jax.benchmarks import doctor
from vqa_jax.benchmarks.sets import BenchmarkError
from vqa_jax.media import find, probe
from vqa_jax.media.container import MediaError, UnreadableFileError
from vqa_jax.settings import DEFAULT_LIMITS


def test_find_videos(tmp_path):
    (tmp_path / "sub/deeper").mkdir(parents=True)
    plain = encode(tmp_path / "b.mp4")
    upper = encode(tmp_path / "plain.mov").rename(tmp_path / "sub/A clip.MOV")
    hidden_kind = encode(tmp_path / "c.mkv").rename(tmp_path / "sub/deeper/c.bin")
    broken = tmp_path / "broken.webm"
    broken.write_text("words")
    (tmp_path / "notes.txt").write_text("words and numbers\n" * 100)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n" * 100)
    everything = sorted(map(str, (plain, upper, hidden_kind, broken)))
    assert find.find_videos([tmp_path]) == everything
    assert find.find_videos([tmp_path, plain, str(tmp_path / "sub/A*"), tmp_path]) == everything
    assert find.find_videos([str(tmp_path / "*.mp4")]) == [str(plain)]
    assert find.find_videos([str(tmp_path / "**/*.bin")]) == [str(hidden_kind)]
    assert find.find_videos([tmp_path / "notes.txt"]) == []
    (tmp_path / "sub/again").symlink_to(tmp_path)  # a loop of folders: each is entered once
    assert find.find_videos([tmp_path]) == everything
    missing = str(tmp_path / "missing.mp4")
    assert find.find_videos([missing]) == [missing]


def test_broken_files_are_listed_by_name_or_where_a_limit_hides_what_they_are(tmp_path):
    """A picture of 65535 x 65535 in a few bytes, half a recording, a film of too many pixels."""
    picture = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    huge = b"GIF89a" + b"\xff" * 4 + b"\x80\0\0" + bytes(6) + 2 * picture + b"\x3b"
    (tmp_path / "huge.gif").write_bytes(huge)
    (tmp_path / "half.M2TS").write_bytes(b"half")
    large = encode(tmp_path / "large.mp4").rename(tmp_path / "large.bin")
    limits = dataclasses.replace(DEFAULT_LIMITS, pixels=1000)
    with mock.patch.object(find, "DEFAULT_LIMITS", limits):
        names = [os.path.basename(path) for path in find.find_videos([tmp_path])]
    assert names == ["half.M2TS", "huge.gif", large.name]
    with pytest.raises(MediaError):
        probe.probe(tmp_path / "huge.gif")


def test_links_to_a_parent_neither_repeat_nor_hang(tmp_path):
    """Three loops: whoever follows them all never comes back."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        encode(tmp_path / name / "clip.mp4")
        (tmp_path / name / "up").symlink_to(tmp_path)
    (tmp_path / "0 first by name").symlink_to(tmp_path / "c")
    wanted = [str(tmp_path / name / "clip.mp4") for name in "abc"]
    assert find.find_videos([tmp_path]) == wanted  # under their own names
    assert find.find_videos([str(tmp_path / "**" / "*.mp4")]) == wanted
    assert find.find_videos([tmp_path], by_content=False) == wanted


def test_a_link_and_two_dots_are_what_the_system_takes_them_for(tmp_path):
    (tmp_path / "far" / "below").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    meant = encode(tmp_path / "far" / "clip.mp4")
    encode(tmp_path / "near" / "clip.mp4", moving_frames(3))
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "below")
    given = os.path.join(tmp_path, "near", "link", "..", "clip.mp4")
    (found,) = find.find_videos([given])
    assert found == given and os.path.samefile(found, meant)
    assert probe.probe(found).num_frames == 24
    assert len(find.find_videos([given, meant])) == 1  # one file
    (found,) = find.find_videos([os.path.dirname(given)])
    assert os.path.samefile(found, meant)


def test_a_folder_that_cannot_be_listed_is_kept_and_says_why(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir()
    clip = encode(tmp_path / "clip.mp4")
    scandir = os.scandir

    def failing(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    assert find.find_videos([tmp_path]) == [str(clip), str(closed)]
    with pytest.raises(UnreadableFileError, match=r"may not be listed .Permission denied"):
        probe.probe(closed)
    with pytest.raises(BenchmarkError, match="closed cannot be listed"):
        doctor.video_files(str(tmp_path))


def test_names_that_are_no_text_and_patterns(tmp_path):
    (tmp_path / "x" / ".hidden").mkdir(parents=True)
    name = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"x", b"br\xff.mp4"))
    encode(tmp_path / "plain.mp4").rename(name)
    encode(tmp_path / "x" / ".hidden" / "clip.mp4")
    for pattern in ("**/*.mp4", "**", "x/*", "**/x/**/b?*.mp4"):
        assert find.find_videos([os.path.join(tmp_path, pattern)]) == [name], pattern
