"""Simulators: severity order, what each level really does, reproducibility, refusals."""

import colorsys
import json

import cv2
import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from configs import base
from data_prep.prepare.config import PrepConfig
from data_prep.simulators import (
    SIMULATORS,
    effective_levels,
    encode,
    expand,
    mixed,
    simulate,
    spatial,
    temporal,
)
from data_prep.simulators.base import KINDS, Simulator, SimulatorError
from tests.fixtures.tolerances import TOLERANCES

JITTER_SEED_5 = [[0.61259103, -0.44023158], [0.83082472, 0.95667363]]
STUTTER_SEED_5 = [0, 0, 2, 2, 2, 5, 5, 7, 8, 9]
PIXELWISE = [name for name, sim in SIMULATORS.items() if sim.kind != "temporal"]


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """A photograph under a panning camera, uint8 [12, 90, 121, 3] (an odd width)."""
    photo = cv2.resize(data.astronaut(), (180, 180), interpolation=cv2.INTER_AREA)
    return np.stack([photo[20 + t : 110 + t, 2 * t : 2 * t + 121] for t in range(12)])


def _levels(name: str) -> range:
    return range(1, len(SIMULATORS[name].parameters) + 1)


def _run(frames, name, level, seed=5):
    return simulate(frames, 30.0, name, level, seed, h265_preset="medium")[0]


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


def test_settings_take_kinds_and_known_presets():
    fields = {**base.get_config().prep.to_dict(), "simulators": ("temporal", "av1")}
    fields["pools"] = ({"name": "chains", "simulators": ("mixed",), "sources": 2},)
    config = PrepConfig.from_dict({**fields, "h265_preset": "fast"})
    assert config.simulators == ("jitter", "stutter", "frame_drop", "frame_blend", "av1")
    assert config.pools[0].simulators == expand(("mixed",))
    with pytest.raises(ValueError, match="h265_preset"):
        PrepConfig.from_dict({**fields, "h265_preset": "fst"})


@pytest.mark.parametrize("name", PIXELWISE)
def test_severity_is_monotone_in_psnr_and_ssim(clip, name):
    distorted = [_run(clip, name, level) for level in _levels(name)]
    levels = effective_levels([clip, *distorted])
    assert levels == ([2, 3, 4, 5] if name == "gaussian_blur" else list(_levels(name)))
    _falling(clip[::4], [distorted[level - 1][::4] for level in levels])


@pytest.mark.parametrize("fps", [60, 120])
@pytest.mark.parametrize("name", expand(("temporal",)))
def test_temporal_severity_is_monotone_against_the_source_of_the_same_time(name, fps):
    photo = cv2.resize(data.astronaut(), (180, 180), interpolation=cv2.INTER_AREA)
    moving = np.stack([photo[20 + t // 2 : 84 + t // 2, t : t + 80] for t in range(64)])
    distorted = [simulate(moving, fps, name, level, 5)[0] for level in _levels(name)]
    _falling(moving, distorted)


@pytest.mark.parametrize("name", SIMULATORS)
def test_equal_seed_equal_frames_and_the_source_is_untouched(clip, name):
    before = clip.copy()
    first, second = (_run(clip, name, 2) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(clip, before)
    assert first.shape == clip.shape
    assert first.dtype == np.uint8
    other = _run(clip, name, 2, seed=6)
    assert np.array_equal(first, other) != SIMULATORS[name].random


def test_random_streams_are_pinned():
    """Frozen values: a change would make old records irreproducible."""
    np.testing.assert_allclose(
        temporal.jitter_directions(2, 5), JITTER_SEED_5, **TOLERANCES["pinned_random"]
    )
    assert temporal.stutter_sources(10, 0.6, 5).tolist() == STUTTER_SEED_5


@pytest.mark.parametrize("level", [1, 5])
def test_noise_has_the_stated_variance_and_is_fresh_in_every_frame(level):
    grey = np.full((4, 128, 128, 3), 128, np.uint8)
    noise = (_run(grey, "gaussian_noise", level).astype(float) - 128) / 255
    variance = SIMULATORS["gaussian_noise"].parameters[level - 1]
    # Rounding to 8 bits adds 1/12 of a squared level.
    assert noise.var() == pytest.approx(variance + 1 / 12 / 255**2, rel=0.02)
    fields = np.moveaxis(noise, -1, 1).reshape(12, -1)  # frames x channels
    correlation = np.corrcoef(fields) - np.eye(12)
    assert np.abs(correlation).max() < 0.05
    other = (_run(grey, "gaussian_noise", 3).astype(float) - 128) / 255
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("name", "sign"), [("darken", -1), ("brighten", 1)])
def test_the_tone_curve_meets_its_three_points_and_keeps_hue(name, sign):
    for level in _levels(name):
        strength = SIMULATORS[name].parameters[level - 1]
        ends = spatial.tone_curve(np.array([0, 0.5, 1]), sign * strength)
        np.testing.assert_allclose(ends, [0, min(0.5 + sign * strength / 2, 1), 1])
    colour = (200, 120, 40)
    got = _run(np.full((1, 2, 2, 3), colour, np.uint8), name, 3)[0, 0, 0]
    hue, saturation, value = colorsys.rgb_to_hsv(*(np.array(colour) / 255))
    new = colorsys.rgb_to_hsv(*(got / 255.0))
    expected = (hue, saturation, np.polyval(np.polyfit([0, 0.5, 1], _three(sign), 2), value))
    np.testing.assert_allclose(new, expected, **TOLERANCES["hsv_on_8_bits"])
    for fixed in (0, 255):  # black stays black, white stays white
        grey = np.full((1, 2, 2, 3), fixed, np.uint8)
        np.testing.assert_array_equal(_run(grey, name, 3), grey)


def _three(sign):
    """Heights of level 3's parabola at 0, 1/2, 1: darken p = 0.2, brighten p = 0.4."""
    return [0, {-1: 0.4, 1: 0.7}[sign], 1]


def test_resize_and_blur_keep_the_content_in_place():
    """A bright dot's centre of mass does not move: no half-pixel shift."""
    frame = np.zeros((1, 97, 64, 3), np.uint8)
    frame[0, 40:57, 24:40] = 255
    rows, columns = np.mgrid[:97, :64]
    for name in ("resize", "gaussian_blur"):
        mass = _run(frame, name, 3)[0, ..., 0].astype(float)
        centre = [(mass * axis).sum() / mass.sum() for axis in (rows, columns)]
        np.testing.assert_allclose(centre, [48, 31.5], **TOLERANCES["centre_of_mass"])


def test_jitter_moves_further_in_the_same_directions():
    """Displacement of a blob, measured by centre of mass, against the stated directions."""
    rows, columns = np.mgrid[:200, :200] - 99.5
    blob = 255 * np.exp(-(rows**2 + columns**2) / (2 * 8**2))
    frames = np.repeat(np.repeat(blob[None, ..., None], 16, 0), 3, 3).astype(np.uint8)
    directions = temporal.jitter_directions(16, 5)
    means = []
    for level, fraction in enumerate(temporal.JITTER_FRACTIONS, start=1):
        got = _run(frames, "jitter", level)[..., 0].astype(float)
        total = got.sum((1, 2))
        centres = np.stack([(got * axis).sum((1, 2)) / total for axis in (columns, rows)], 1)
        # Moving the window to the right moves what it shows to the left, enlarged.
        expected = -directions * fraction * 200 / (1 - 2 * fraction)
        np.testing.assert_allclose(centres, expected, **TOLERANCES["centre_of_mass"])
        means.append(np.linalg.norm(centres, axis=1).mean())
    assert means[0] > 0.5
    assert np.all(np.diff(means) > 0.5)


@pytest.mark.parametrize("count", [8, 9, 32])
def test_stutter_freezes_nest_and_every_level_adds_some(count):
    for seed in range(300):
        repeats = []
        for probability in temporal.STUTTER_PROBABILITIES:
            sources = temporal.stutter_sources(count, probability, seed)
            assert sources[0] == 0
            step = np.diff(sources)
            # A frame is itself or what was shown before it.
            assert np.all((step == 0) | (sources[1:] == np.arange(1, count)))
            repeats.append(set(np.flatnonzero(step == 0)))
        assert repeats[0] and repeats[0] < repeats[1] < repeats[2], seed


def test_stutter_rates_are_the_probabilities():
    for probability in temporal.STUTTER_PROBABILITIES:
        repeats = np.mean(np.diff(temporal.stutter_sources(20001, probability, 1)) == 0)
        assert repeats == pytest.approx(probability, abs=0.015)


def test_stutter_frames_are_what_the_sources_say(clip):
    got = _run(clip, "stutter", 3)
    expected = [clip[0]]
    sources = temporal.stutter_sources(len(clip), 0.6, 5)
    for t in range(1, len(clip)):
        expected.append(clip[t] if sources[t] == t else expected[-1])
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("fps", "rate", "sources"),
    [
        (60, 30, [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10]),
        (60, 24, [0, 0, 0, 3, 3, 5, 5, 5, 8, 8, 10, 10]),  # held 3 and 2 times in turn
        (30, 24, [0, 0, 2, 3, 4, 5, 5, 7, 8, 9, 10, 10]),  # one in five is dropped
        (59.94, 15, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8]),
        (24, 30, list(range(12))),
        (29.97, 30, list(range(12))),
    ],
)
def test_lower_frame_rates_hold_or_average_whole_slots(clip, fps, rate, sources):
    level = temporal.FRAME_RATES.index(rate) + 1
    dropped, record = simulate(clip, fps, "frame_drop", level, 0)
    np.testing.assert_array_equal(dropped, clip[sources])
    assert record["value"] == rate
    assert record["effective"] == pytest.approx(fps * min(1, rate / round(fps)))
    blended = simulate(clip, fps, "frame_blend", level, 0)[0]
    for t, first in enumerate(sources):
        slot = clip[np.equal(sources, first)].astype(float)
        assert np.abs(blended[t] - slot.mean(0)).max() <= 0.5


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 59.94, 120])
def test_a_second_keeps_as_many_frames_as_the_rate_says(fps):
    for rate in temporal.FRAME_RATES:
        slots = temporal.frame_slots(10 * round(fps), fps, rate)
        assert len(set(slots)) == 10 * min(rate, round(fps))


@pytest.mark.parametrize("name", expand(("temporal",)))
def test_one_frame_has_no_temporal_distortion(clip, name):
    np.testing.assert_array_equal(_run(clip[:1], name, 3), clip[:1])


def test_records_tell_what_was_done(clip):
    frames = clip[:2, :64, :64]
    _, h264 = simulate(frames, 30, "h264", 4, 0)
    assert (h264["value"], h264["effective"], h264["preset"]) == (63, 51, "fast")
    _, h265 = simulate(frames, 30, "h265", 1, 0, h265_preset="ultrafast")
    assert (h265["value"], h265["effective"], h265["preset"]) == (36, 36, "ultrafast")
    _, av1 = simulate(frames, 30, "av1", 4, 0, h265_preset="ultrafast")
    assert (av1["codec"], av1["effective"], av1["preset"]) == ("av1", 63, "8")
    assert av1["encoder"] == encode.encoder("av1")
    _, noise = simulate(frames, 30, "gaussian_noise", 5, 9)
    assert json.loads(json.dumps(noise)) == {
        "simulator": "gaussian_noise",
        "kind": "spatial",
        "level": 5,
        "parameter": "variance",
        "value": 0.01,
        "effective": 0.01,
        "seed": 9,
    }


def test_a_chain_is_its_steps_one_after_the_other(clip):
    frames = clip[:3]
    got, record = simulate(frames, 30, "noise_h265", 2, 9, h265_preset="ultrafast")
    captured, _ = simulate(frames, 30, "gaussian_noise", 3, 9)  # the same variance and stream
    expected = encode.encode_decode(captured, 30, encode.EncodeConfig("h265", 42, "ultrafast"))
    np.testing.assert_array_equal(got, expected)
    assert json.loads(json.dumps(record)) == {
        "simulator": "noise_h265",
        "kind": "mixed",
        "level": 2,
        "parameter": ["variance", "crf"],
        "value": [0.003, 42],
        "effective": [0.003, 42],
        "codec": "h265",
        "encoder": encode.encoder("h265"),
        "preset": "ultrafast",
        "seed": 9,
    }


def test_every_step_of_a_chain_only_adds():
    for name in expand(("mixed",)):
        steps = np.diff(SIMULATORS[name].parameters, axis=0)
        assert np.all(steps >= 0)
        assert np.all(steps.max(axis=1) > 0)
    parts = SIMULATORS["gaussian_noise"], SIMULATORS["h264"]
    assert mixed.chain("ok", *parts, [(0.1, 24), (0.1, 36), (0.2, 36)]).random
    for levels in ([(0.1, 36), (0.2, 24)], [(0.1, 36), (0.1, 36)]):
        with pytest.raises(SimulatorError, match="does not only add"):
            mixed.chain("unordered", *parts, levels)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [("sonic", (1,), "sonic"), ("spatial", (), "0 levels"), ("spatial", range(6), "6 levels")],
)
def test_a_simulator_has_a_kind_and_one_to_five_levels(kind, parameters, message):
    with pytest.raises(SimulatorError, match=message):
        Simulator("new", kind, "x", tuple(parameters), lambda frames, *_: frames)


def test_effective_levels_compare_with_source_and_last_kept():
    a, b, c = (np.full((2, 2), value, np.uint8) for value in (1, 2, 3))
    assert effective_levels([a, a, b, b, c]) == [2, 4]
    assert effective_levels([a, b, a, b, c]) == [1, 4]
    assert effective_levels([a, a, a]) == []
    # A difference in the motion clips alone counts.
    assert effective_levels([(a, a), (a, b), (a, b), (a, c)]) == [1, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "sepia"}, "sepia"),
        ({"level": 0}, "levels 1 to 5"),
        ({"level": 6}, "levels 1 to 5"),
        ({"frames": np.zeros((2, 8, 8, 3), np.float32)}, "float32"),
        ({"frames": np.zeros((8, 8, 3), np.uint8)}, "uint8 RGB"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8)}, "T >= 1"),
    ],
)
def test_wrong_requests_are_refused(change, message):
    call = {"frames": np.zeros((2, 8, 8, 3), np.uint8), "name": "resize", "level": 1, **change}
    with pytest.raises(SimulatorError, match=message):
        simulate(fps=30, seed=0, **call)
