"""A ladder of encodes whose qualities are known: ranking, low passages, order, knee, bits saved."""

import dataclasses

import numpy as np
import pytest

from tests.fixtures.known_qualities import video_of
from tests.fixtures.known_versions import KnowingStudent
from vqa_jax.benchmarks.bd_rate import bd_rate
from vqa_jax.media.container import MediaError, UnreadableFileError
from vqa_jax.media.passages import Passage
from vqa_jax.media.probe import VideoInfo
from vqa_jax.scoring import ladder
from vqa_jax.scoring.ladder import Encode
from vqa_jax.settings import DEFAULT_LIMITS

# Name -> qualities of the three passages; the source is 1 in each.
QUALITIES = {
    "source": (1.0, 1.0, 1.0),
    "a 1": (-1.5, -1.5, -0.9),
    "a 2": (0.2, 0.2, 0.2),
    "a 3": (0.6, 0.6, 0.6),
    "b 1": (-0.5, -0.5, -0.5),
    "b 2": (0.5, 0.5, 0.5),
    "b 3": (0.3, 0.3, 0.3),
    "short": (0.0,),
}


class Student(KnowingStudent):
    """Sees a passage's quality."""

    def encode_views(self, views):
        return [video_of(float(frames[0])) for frames, _ in views]


def info_of(path, seconds):
    """What there is to know of a file."""
    return VideoInfo(path, "mov", "h264", 64, 48, 25.0, round(25 * seconds), seconds)


@pytest.fixture
def climbed(monkeypatch):
    """Rungs of codecs a and b, one too short, one that is not there, one without a file."""

    def read(student, video, limits):
        if video.info.path == "broken":
            yield Passage(0.0, 2.0, np.array([0.0]), np.zeros(1))
            raise MediaError("broken", "decode", "from 1.0 s: it ends")
        for quality in QUALITIES[video.info.path]:
            yield Passage(0.0, 2.0, np.array([quality]), np.zeros(1))

    def called(limits, path, function, *args):
        if path == "gone":
            raise UnreadableFileError(path, "probe", "no such file")
        return info_of(path, 3.0 if path == "short" else 4.0)

    monkeypatch.setattr(ladder, "_passages", read)
    monkeypatch.setattr(ladder, "_TOGETHER", 4)
    monkeypatch.setattr(ladder.isolation, "call", called)
    names = [name for name in QUALITIES if name != "source"] + ["gone"]
    # Twice the bits a step; b of half as many as a.
    encodes = [
        Encode(n, n, n[0], 30.0, (100 if n[0] == "a" else 50) * 2**k)
        for k, n in zip((0, 1, 2) * 3, names, strict=False)
    ]
    encodes.append(Encode("broken", "broken", "x", None, 10.0))
    encodes.append(Encode("none", "none", "x", error="no pictures [probe]"))
    told = {"a 1": {"psnr": {"mean": 30.0, "percentile_5": 29.0}}}
    for k, name in enumerate(("a 1", "a 2", "b 1", "gone")):  # against the qualities' order
        told.setdefault(name, {})["ssim"] = {"mean": 0.9 - 0.1 * (k == 1), "percentile_5": 0.7}
    source = info_of("source", 4.0)
    return ladder.climb(Student(), source, (0, 0), encodes, told, DEFAULT_LIMITS)


def test_qualities_are_ranked_below_the_source_and_failures_say_why(climbed):
    found = {rung.encode.name: rung for rung in climbed.rungs}
    assert list(found) == [
        "a 1",
        "a 2",
        "a 3",
        "b 1",
        "b 2",
        "b 3",
        "short",
        "gone",
        "broken",
        "none",
    ]
    good = [r for r in climbed.rungs if r.error is None]
    assert len(good) == 6 and climbed.passages == 3 and climbed.model == "known"
    expected = {name: np.mean(QUALITIES[name]) for name in found if found[name].error is None}
    assert sorted(expected, key=expected.get) == sorted(expected, key=lambda n: found[n].quality)
    assert all(rung.quality < 0 and rung.std > 0 for rung in good)
    assert found["a 1"].percentile_5 < found["a 1"].quality
    assert found["b 1"].percentile_5 == pytest.approx(found["b 1"].quality, abs=0.1)
    assert (
        "3.0 s long, the part of the source 4.0 s" in found["short"].error
        and found["gone"].error == "no such file [probe]"
    )
    assert found["broken"].error == "from 1.0 s: it ends [decode]"
    assert found["none"].error == "no pictures [probe]" and found["none"].quality is None
    assert found["a 1"].measured["psnr"]["mean"] == 30.0 and "psnr" not in found["a 2"].measured
    assert climbed.contradictions == 0


def test_neighbours_knees_and_bits_at_equal_quality(climbed):
    orders = [(s.cheaper, s.dearer, s.order) for s in climbed.steps]
    assert orders == [
        ("a 1", "a 2", "right"),
        ("a 2", "a 3", "right"),
        ("b 1", "b 2", "right"),
        ("b 2", "b 3", "wrong"),
    ]
    assert climbed.knees == {"a": "a 2", "b": "b 2"}
    by_codec = climbed.codecs
    assert list(by_codec) == ["a", "b"]
    points = [
        ([r.encode.kbps for r in curve], [r.quality for r in curve]) for curve in by_codec.values()
    ]
    rates = climbed.bd_rates["quality"]
    assert rates["a"]["b"] == pytest.approx(bd_rate(*points[0], *points[1])) and rates["a"]["b"] < 0
    assert rates["a"]["a"] == rates["b"]["b"] == 0
    assert climbed.bd_rates["psnr"]["a"]["b"] is None
    # The ranks are 1, 3, 2 and 2.5, 1, 2.5.
    assert climbed.agreement == {"psnr": None, "ssim": pytest.approx(-np.sqrt(3) / 2)}
    assert ladder.values(by_codec["a"], "psnr") == [30.0, None, None]


def test_equal_encodes_are_a_tie_and_nothing_usable_is_an_empty_ladder(climbed, monkeypatch):
    source = info_of("source", 4.0)
    twins = [Encode(f"a {k}", "a 2", "a", None, 10.0 + k) for k in range(2)]
    found = ladder.climb(Student(), source, (0, 0), twins, {}, DEFAULT_LIMITS)
    assert [step.order for step in found.steps] == ["tie"] and found.knees == {"a": None}
    gone = [dataclasses.replace(twins[0], error="gone")]
    empty = ladder.climb(Student(), source, (0, 0), gone, {}, DEFAULT_LIMITS)
    assert empty.codecs == {} and empty.steps == () and empty.bd_rates == {"quality": {}}
