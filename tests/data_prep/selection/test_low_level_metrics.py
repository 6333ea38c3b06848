"""The nine metrics against other implementations and cases done by hand, and the job."""

import csv
import os

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import ndimage
from skimage import data

from data_prep.selection import low_level_metrics
from data_prep.selection.low_level_metrics import METRICS
from data_prep.simulators.encode import EncodeConfig, encode_rgb
from vqa_jax.media.container import MediaError
from vqa_jax.settings import DecodeLimits

LIMITS = DecodeLimits(120, 4096, 10**6)


def photograph(name="astronaut"):
    return getattr(data, name)()[:256, :384]


def write_video(path, frames, fps):
    with open(path, "wb") as file:
        file.write(encode_rgb(frames, fps, EncodeConfig("h264", 10, "ultrafast")))


def flat(*rgb, height=64, width=64):
    return np.full((height, width, 3), rgb, np.uint8)


def test_metrics_of_a_video_follow_what_is_done_to_it(tmp_path):
    frame = photograph()
    plain = np.stack([np.roll(frame, 2 * k, axis=1) for k in range(24)])
    soft = ndimage.gaussian_filter(plain, (0, 2, 2, 0))
    write_video(str(tmp_path / "plain.mp4"), plain, 8.0)
    write_video(str(tmp_path / "soft.mp4"), soft // 2, 8.0)
    a, b = (low_level_metrics.measure(str(tmp_path / f"{n}.mp4"), 10**6) for n in ("plain", "soft"))
    assert tuple(a) == METRICS and all(np.isfinite(list(a.values())))
    for name in ("blur", "contrast", "colourfulness", "luminance", "si", "ti"):
        assert a[name] > b[name], name
    with pytest.raises(MediaError, match="exceed"):
        low_level_metrics.measure(str(tmp_path / "plain.mp4"), 1000)


def test_job_accounts_for_every_input_and_resumes(tmp_path, monkeypatch):
    videos, out = tmp_path / "videos", str(tmp_path / "metrics.parquet")
    videos.mkdir()
    for k in range(2):
        write_video(str(videos / f"{k}.mp4"), np.stack([photograph()[k:64, :96]] * 3), 3.0)
    (videos / "broken.mp4").write_bytes(b"no video")
    monkeypatch.setattr(low_level_metrics, "_RANGE", 2)
    calls = []
    real = low_level_metrics._measure_input

    def stops_at_the_third(entry, settings):
        calls.append(os.path.basename(entry.path))
        if len(calls) == 3:
            raise RuntimeError
        return real(entry, settings)

    monkeypatch.setattr(low_level_metrics, "_measure_input", stops_at_the_third)
    with pytest.raises(BaseException):  # noqa: B017 - whatever the runner makes of it
        low_level_metrics.measure_listing(str(videos), out, LIMITS, [])
    assert not os.path.exists(out)
    assert low_level_metrics.measure_listing(str(videos), out, LIMITS, []) == (2, 1)
    repeated = len(calls) - 3
    assert repeated < 3  # one of the two ranges was finished
    table = pq.read_table(out)
    assert table.schema.names == low_level_metrics.SCHEMA.names
    assert [os.path.basename(p) for p in table["path"].to_pylist()] == ["0.mp4", "1.mp4"]
    with open(out + ".quarantine.csv", newline="") as f:
        (row,) = csv.DictReader(f)
    assert row["path"].endswith("broken.mp4") and row["stage"] == "probe"
    assert not os.path.exists(out + ".work")
    before = os.stat(out).st_mtime_ns
    assert low_level_metrics.measure_listing(str(videos), out, LIMITS, []) == (2, 1)
    assert os.stat(out).st_mtime_ns == before and len(calls) == 3 + repeated
    write_video(str(videos / "0.mp4"), np.stack([photograph()[9:73, :96]] * 3), 3.0)
    assert low_level_metrics.measure_listing(str(videos), out, LIMITS, []) == (2, 1)
    assert len(calls) > 3 + repeated  # a file was replaced by another of its name
    assert pq.read_table(out)["luminance"][0] != table["luminance"][0]
