"""Passages of long videos: equal to reading them alone, bounded memory, files that break off."""

import csv
import dataclasses
import io
import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.fixtures import tiny_corpus
from tests.fixtures.noise_video import FPS, noise, write
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.cli import main
from vqa_jax.media import decode, isolation, passages, probe
from vqa_jax.media import view as frames
from vqa_jax.motion import extractor
from vqa_jax.report import timeline as timeline_page
from vqa_jax.scoring import timeline


@pytest.mark.parametrize("view", ["crops", "squash"])
def test_a_passage_is_the_input_of_its_frames_alone(tmp_path, view):
    pre = dataclasses.replace(tiny_corpus.PREPROCESS, view=view, clip_len=6)
    path = write(tmp_path / "v.mp4", noise(5.5))
    whole = np.stack([f for _, f in decode.iter_frames(path)])
    found = list(passages.read(probe.probe(path), pre, 2.0, 1.0))
    assert [(p.start, p.stop) for p in found] == [(0, 2), (1, 3), (2, 4), (3, 5), (3.5, 5.5)]
    for passage in found:
        own = whole[round(passage.start * FPS) : round(passage.stop * FPS)]
        keys = own[frames.key_frame_indices(len(own), FPS)]
        np.testing.assert_array_equal(passage.frames, frames.view_frames(keys, pre))
        np.testing.assert_array_equal(passage.clips, frames.motion_clips(own, FPS, pre))


@pytest.fixture(scope="module")
def student(known):
    """The corpus's student, whose motion features say nothing."""
    with tiny_corpus.student_at_work(known) as found:
        yield found


def rows_of(folder):
    with open(os.path.join(folder, "timeline.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_dark_passage_is_the_worst_moment(student, tmp_path):
    dark = range(6, 8)
    path = write(tmp_path / "a<b>.mp4", noise(12, lambda s: 0.1 if int(s) in dark else 1.0))
    found = timeline.score_passages(student, path, 2.0, 1.0)
    timeline.write_table(found, str(tmp_path / "out"))
    rows = rows_of(tmp_path / "out")
    assert [float(r["start"]) for r in rows] == list(range(11))
    scores = np.array([float(r["score"]) for r in rows])
    assert scores.argmin() == 6 and all(r["error"] == "" for r in rows)
    worst = [look.moment for look in found.worst]
    assert worst[0].start == 6
    assert [m.score for m in worst] == sorted(m.score for m in worst)
    spans = sorted((m.start, m.stop) for m in worst)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    timeline_page.write(found, str(tmp_path / "out"))
    page = (tmp_path / "out" / "timeline.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2 * len(worst) and "a&lt;b&gt;.mp4" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "0:06.0 to 0:08.0" in page and "0:06.0" in timeline_page.render(found, "out")


def test_the_darkest_tile_is_the_worst(student):
    pre = student.engine.spec.preprocess
    bright = np.stack(list(noise(2)))[: pre.num_tiles, : pre.tile_size, : pre.tile_size]
    clips = np.zeros((1, pre.clip_len, pre.motion_size, pre.motion_size, 3), np.uint8)
    for tile in range(pre.num_tiles):
        tiles = bright.copy()
        tiles[tile] //= 3
        assert timeline._worst_tile(student, *student.encode_views([(tiles, clips)])) == tile


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (1280, 720), (300, 400), (100, 90)])
def test_the_crop_is_the_marked_part_of_the_frame_around_the_tile(height, width):
    frame = np.random.default_rng(0).integers(0, 100, (height, width, 1), np.uint8).repeat(3, 2)
    pre = dataclasses.replace(tiny_corpus.PREPROCESS, tile_size=80, num_tiles=7)
    middle = (height // 2 - 40, width // 2 - 40)
    places = dict(enumerate(frames.tile_positions(height, width, pre))) | {None: middle}
    for tile, (top, left) in places.items():
        picture, crop = (
            np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
            for jpeg in timeline._pictures(frame, tile, pre)
        )
        assert max(picture.shape) == min(640, max(height, width))
        assert crop.shape == (min(240, height), min(240, width), 3)
        marked = np.argwhere(picture[..., 0] - picture[..., 2] > 120) * height / picture.shape[0]
        near = np.maximum(marked.min(axis=0).round().astype(int) - 3, 0)
        errors = {
            (y, x): np.abs(frame[y : y + len(crop), x : x + crop.shape[1]] - crop).mean()
            for y in range(near[0], near[0] + 7)
            for x in range(near[1], near[1] + 7)
            if y + len(crop) <= height and x + crop.shape[1] <= width
        }
        y, x = min(errors, key=errors.__getitem__)
        assert errors[y, x] < TOLERANCES["jpeg_strip"]["atol"]
        assert y <= top and top + 80 <= y + len(crop)
        assert x <= left and left + 80 <= x + crop.shape[1]


def test_what_cannot_be_read_is_rows_with_a_reason(student, tmp_path, monkeypatch):
    path = write(tmp_path / "v.mkv", noise(8))
    info = probe.probe(path)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) * 6 // 10)
    monkeypatch.setattr(isolation, "call", lambda *_: info)  # the header outlives the tail
    found = timeline.score_passages(student, path, 2.0, 1.0)
    timeline.write_table(found, str(tmp_path / "out"))
    timeline_page.write(found, str(tmp_path / "out"))
    rows = rows_of(tmp_path / "out")
    assert [float(r["stop"]) for r in rows] == [2, 3, 4, 5, 6, 7, 8]
    good = [bool(r["score"]) for r in rows]
    assert good[0] and not good[-1] and good == sorted(good, reverse=True)
    assert all(bool(r["score"]) is not bool(r["error"]) for r in rows)
    assert "ends after" in rows[-1]["error"]
    assert "ends after" in (tmp_path / "out" / "timeline.html").read_text(encoding="utf-8")


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    assert main.main(["timeline", str(text), "--out", str(tmp_path / "out")]) == 1
    assert "not a media file" in capsys.readouterr().err
    path = write(tmp_path / "v.mp4", noise(1))
    arguments = ["timeline", path, "--out", str(tmp_path / "out"), "--stride", "3"]
    assert main.main(arguments) == 1
    assert "stride" in capsys.readouterr().err


def test_parts_of_several_videos_as_json(known, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    dark = write(tmp_path / "v.mp4", noise(9, lambda s: 0.1 if 5 <= s < 7 else 1.0))
    arguments = ["timeline", dark, str(tmp_path / "gone.mp4"), "--student", known]
    assert main.main(arguments) == 2 and "--json" in capsys.readouterr().out
    out = tmp_path / "out"
    part = ["--start", "4", "--length", "4", "--out", str(out), "--json", "-"]
    assert main.main([*arguments, *part]) == 0
    told, gone = json.loads(capsys.readouterr().out)
    assert [(m["start"], m["stop"]) for m in told["moments"]] == [(4, 6), (5, 7), (6, 8)]
    assert told["worst"][0] == told["moments"][1] and told["error"] is None
    lowest = min(m["score"] for m in told["moments"])
    assert told["summary"]["worst_5_percent"] == pytest.approx(lowest)
    assert told["summary"]["passages"] == told["summary"]["scored"] == 3
    assert "no such file" in gone["error"]
    assert len(rows_of(out / "0001-v.mp4")) == 3


def test_the_worst_twentieth_is_one_passage_at_least():
    moments = [timeline.Moment(k, k + 1, float(k)) for k in range(40)]
    moments.append(timeline.Moment(40, 41, error="x"))
    found = timeline.summary(timeline.Timeline("a", tuple(moments), (), "", 0))
    assert (found["worst_5_percent"], found["mean"], found["median"]) == (0.5, 19.5, 19.5)
    none = timeline.summary(timeline.Timeline("a", tuple(moments[40:]), (), "", 0))
    assert none["scored"] == 0 and none["mean"] is None


_GROWTH = """
import resource, sys
from vqa_jax.media import passages, probe
from vqa_jax.media.preprocess import Preprocess
pre = Preprocess(image_size=64, motion_size=56, max_key_frames=8)
count, early = 0, None
for passage in passages.read(probe.probe(sys.argv[1]), pre, 2.0, 1.0):
    count += passage.error is None
    if count == 100:
        early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early) / 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    path = write(tmp_path / "long.mp4", noise(3600, fps=8), fps=8)
    out = subprocess.run(
        [sys.executable, "-c", _GROWTH, path], capture_output=True, text=True, check=True
    )
    count, grown = map(float, out.stdout.split())
    assert count == 3599
    assert grown < 20, f"{grown:.1f} MB more after the first 100 passages"
