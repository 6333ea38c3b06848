"""Simulators: severity order, what each level really does, reproducibility, refusals."""

import weakref

import cv2
import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from data_prep.simulators import (
    SIMULATORS,
    Clip,
    expand,
    simulate,
)
from data_prep.simulators.base import KINDS, SimulatorError
from tests.fixtures.simulated import levels_of, run, simulated

PIXELWISE = expand(("spatial", "streaming", "mixed"))
FRAMEWISE = expand(("optics", "sensor", "processing", "coding"))


def _falling(source, distorted):
    """PSNR and mean SSIM of every version against the source, frame by frame."""
    psnr = [peak_signal_noise_ratio(source, version) for version in distorted]
    ssim = [
        np.mean(
            [structural_similarity(a, b, channel_axis=-1) for a, b in zip(source, v, strict=True)]
        )
        for v in distorted
    ]
    assert np.all(np.diff(psnr) < 0), psnr
    assert np.all(np.diff(ssim) < 0), ssim
    assert ssim[0] < 1


PAPER_TABLE = {
    "resize": (2, 3, 4, 8, 16),
    "gaussian_blur": (0.1, 0.5, 1, 2, 5),
    "gaussian_noise": (0.001, 0.002, 0.003, 0.005, 0.01),
    "darken": (0.05, 0.1, 0.2, 0.4, 0.8),
    "brighten": (0.1, 0.2, 0.4, 0.7, 1.1),
    "jitter": (0.01, 0.025, 0.05),
    "stutter": (0.1, 0.3, 0.6),
    "h264": (24, 36, 48, 63),
    "h265": (36, 40, 44, 48),
}


def test_the_table_of_the_method():
    assert {name: SIMULATORS[name].parameters for name in PAPER_TABLE} == PAPER_TABLE
    assert SIMULATORS["h264"].options["preset"] == "fast"
    assert SIMULATORS["h265"].options["preset"] == "veryslow"
    assert {sim.kind for sim in SIMULATORS.values()} == set(KINDS)


def test_a_kind_stands_for_all_its_simulators():
    assert expand(("jitter", "streaming")) == ("jitter", "h264", "h265", "av1", "vp9")
    assert {SIMULATORS[name].kind for name in expand(("mixed",))} == {"mixed"}
    assert len(expand(KINDS)) == len(SIMULATORS)
    assert expand(("fog",)) == ("fog",)  # the config says that there is none


@pytest.mark.parametrize("name", PIXELWISE)
def test_severity_is_monotone_in_psnr_and_ssim(clip, name):
    distorted = [run(clip, name, level) for level in levels_of(name)]
    levels = _effective([clip, *distorted])
    assert levels == ([2, 3, 4, 5] if name == "gaussian_blur" else list(levels_of(name)))
    _falling(clip[::4], [distorted[level - 1][::4] for level in levels])


@pytest.mark.parametrize("name", FRAMEWISE)
def test_severity_is_monotone_in_every_frame(picture, name):
    distorted = [run(picture, name, level) for level in levels_of(name)]
    assert _effective([picture, *distorted]) == list(levels_of(name))
    for t in range(len(picture)):
        _falling(picture[t : t + 1], [version[t : t + 1] for version in distorted])


@pytest.mark.parametrize("name", FRAMEWISE)
def test_one_frame_is_distorted_as_the_first_of_many(picture, name):
    np.testing.assert_array_equal(run(picture[:1], name, 3)[0], run(picture, name, 3)[0])


@pytest.mark.parametrize("fps", [60, 120])
@pytest.mark.parametrize("name", expand(("temporal",)))
def test_temporal_severity_is_monotone_against_the_source_of_the_same_time(name, fps):
    photo = cv2.resize(data.astronaut(), (180, 180), interpolation=cv2.INTER_AREA)
    moving = np.stack([photo[20 + t // 2 : 84 + t // 2, t : t + 80] for t in range(64)])
    distorted = [simulated(moving, fps, name, level, 5)[0] for level in levels_of(name)]
    _falling(moving, distorted)


@pytest.mark.parametrize("name", SIMULATORS)
def test_equal_seed_equal_frames_and_the_source_is_untouched(clip, name):
    before = clip.copy()
    first, second = (run(clip, name, 2) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(clip, before)
    assert first.shape == clip.shape
    assert first.dtype == np.uint8
    other = run(clip, name, 2, seed=6)
    assert np.array_equal(first, other) != SIMULATORS[name].random


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "sepia"}, "sepia"),
        ({"level": 0}, "levels 1 to 5"),
        ({"level": 6}, "levels 1 to 5"),
        ({"frames": np.zeros((2, 8, 8, 3), np.float32)}, "float32"),
        ({"frames": np.zeros((2, 8, 9, 3), np.uint8)}, "uint8 RGB"),
        ({"frames": np.zeros((1, 8, 8, 3), np.uint8)}, "a clip of 2"),
    ],
)
def test_wrong_requests_are_refused(change, message):
    call = {"frames": np.zeros((2, 8, 8, 3), np.uint8), "name": "resize", "level": 1, **change}
    with pytest.raises(SimulatorError, match=message):
        list(simulate(clip=Clip(2, 8, 8, 30.0), seed=0, **call)[0])
    with pytest.raises(SimulatorError, match="one at least"):
        Clip(0, 8, 8, 30.0)


BY_FRAME = [name for name, simulator in SIMULATORS.items() if simulator.by_frame]


@pytest.mark.parametrize("name", BY_FRAME)
def test_a_frame_by_itself_is_what_it_is_among_others(picture, name):
    np.testing.assert_array_equal(run(picture[1:], name, 3)[0], run(picture, name, 3)[1])


@pytest.mark.parametrize("name", SIMULATORS)
def test_few_frames_are_held_at_a_time(clip, name):
    """Frames that were given and are not let go when one comes out."""
    alive, most = set(), 0

    def frames():
        for number, frame in enumerate(np.concatenate([clip] * 4)):
            given = frame.copy()
            alive.add(number)
            weakref.finalize(given, alive.discard, number)
            yield given

    stream = simulate(frames(), Clip(48, 90, 121, 60.0), name, 1, 5, "ultrafast")[0]
    for _ in stream:
        most = max(most, len(alive))
    assert most <= 5


def _effective(versions):
    """Numbers of versions, 0 is the source, that differ from it and from the last kept one."""
    kept = [0]
    for level in range(1, len(versions)):
        if not any(np.array_equal(versions[level], versions[k]) for k in {0, kept[-1]}):
            kept.append(level)
    return kept[1:]
