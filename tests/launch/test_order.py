"""Order of simulated versions: what is told of answers that are known."""

import json
import runpy

import numpy as np
import pytest

from tests.test_imports import ROOT
from vqa_jax.jobs.files import CorpusError
from vqa_jax.media.decode import iter_frames
from vqa_jax.media.probe import probe


@pytest.fixture(scope="module")
def order():
    return runpy.run_path(str(ROOT / "launch" / "order.py"))


def _rows():
    """Two clips with two H.264 copies each and a scaled one."""
    for clip in ("a", "b"):
        yield {"video_id": f"{clip}-0", "source_id": clip, "simulator": "source", "level": 0}
        for level, crf in ((1, 24), (2, 51)):
            parameter = json.dumps({"effective": crf})
            yield {
                "video_id": f"{clip}-h264-{level}",
                "source_id": clip,
                "simulator": "h264",
                "level": level,
                "parameter": parameter,
                "vmaf": 100.0 - crf,
            }
        yield {
            "video_id": f"{clip}-resize-1",
            "source_id": clip,
            "simulator": "resize",
            "level": 1,
            "vmaf": 60.0,
        }


def test_copies_quarters_and_vmaf_are_counted_clip_by_clip(order):
    def pair(clip, first, second, correct, simulator="h264"):
        ids = {"first_id": f"{clip}-{first}", "second_id": f"{clip}-{second}"}
        return {**ids, "simulator": simulator, "correct": correct}

    pairs = [
        pair("a", "h264-2", "0", 1),
        pair("a", "0", "h264-1", 0),  # of a low CRF: does not count
        pair("b", "0", "h264-2", 0),
        pair("b", "h264-1", "h264-2", 1),
    ]
    by_quality = {"h264-1": 80, "resize-1": 50, "h264-2": 20}
    scores = [
        {"video_id": f"{clip}-{name}", "score": sign * score, "error": None}
        for clip, sign in (("a", 1), ("b", -1))
        for name, score in by_quality.items()
    ]
    scores.append({"video_id": "a-0", "score": 99, "error": None})
    simulators = {"h264": {"accuracy": 0.5}, "resize": {"accuracy": 0.9}}
    evaluation = {"accuracy": 0.7, "accuracy_ci": [0.6, 0.8], "by_simulator": simulators}
    files = {"x/cut/a.mkv": 60.0, "x/quarter/a.mkv": 30.0, "x/cut/b.mkv": 20.0}
    files |= {"x/quarter/b.mkv": 20.0, "x/cut/alone.mkv": 1.0}
    found = order["told"]([*_rows()], evaluation, pairs, scores, files)
    assert found["crf"]["h264"] == {"right": 1, "clips": 2}
    assert found["crf"]["h265"] == {"right": 0, "clips": 0}
    assert found["quarter"] == {"right": 1, "clips": 2, "wrong": ["b.mkv"]}
    assert found["lowest"] == ["h264", 0.5]
    assert found["vmaf"] == {"mean": pytest.approx(0), "lowest": pytest.approx(-1), "clips": 2}
    text = order["text_of"](found)
    assert "1 of 2 clips" in text and "b.mkv" in text and "70.0%" in text
    without = order["told"](
        [{**row, "vmaf": None} for row in _rows()], evaluation, pairs, scores, files
    )
    assert without["vmaf"] is None and "VMAF" not in order["text_of"](without)


def test_clips_are_cut_without_loss_and_made_small(order, tmp_path):
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (12, 4, 5, 3), np.uint8)
    frames = blocks.repeat(16, 1).repeat(16, 2)
    (tmp_path / "clips").mkdir()
    order["write_lossless"](str(tmp_path / "clips" / "one.mkv"), frames, 10.0)
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    out = str(tmp_path / "out")
    assert order["cut"](str(tmp_path / "clips"), out, 0.8, 0) == 1
    kept = [frame for _, frame in iter_frames(f"{out}/cut/one.mkv")]
    np.testing.assert_array_equal(kept, frames[:8])
    small = probe(f"{out}/quarter/one.mkv")
    assert (small.width, small.height, small.num_frames, small.fps) == (20, 16, 8, 10)
    low = str(tmp_path / "low")
    order["cut"](str(tmp_path / "clips"), low, 0.2, 32)
    assert probe(f"{low}/cut/one.mkv").height == 32
    (tmp_path / "clips" / "one.mkv").unlink()
    with pytest.raises(CorpusError, match="no clip can be read"):
        order["cut"](str(tmp_path / "clips"), str(tmp_path / "none"), 1.0, 0)
