"""VMAF by an outer program; what it says needs the extra, errors do not."""

import importlib.util

import numpy as np
import pytest

from vqa_jax.extras import MissingExtraError
from vqa_jax.teachers import vmaf

CLIP = np.zeros((2, 32, 32, 3), np.uint8)
HAS_FFMPEG = importlib.util.find_spec("imageio_ffmpeg") is not None


@pytest.mark.skipif(HAS_FFMPEG, reason="the extra is installed")
def test_a_missing_program_is_told_with_the_way_to_get_it():
    with pytest.raises(MissingExtraError, match=r"vqa_jax\[vmaf\]"):
        vmaf.vmaf(CLIP, CLIP, 25.0)


@pytest.mark.parametrize(
    ("distorted", "program", "why"),
    [
        (CLIP[:1], "/bin/true", "compares as many"),
        (CLIP.astype(np.float32), "/bin/true", "give uint8"),
        (CLIP, "/bin/false", "failed"),
        (CLIP, "/bin/true", "told no score"),
        (CLIP, "/nowhere/ffmpeg", "No such file"),
    ],
)
def test_failures_are_typed(distorted, program, why):
    with pytest.raises(vmaf.VmafError, match=why):
        vmaf.vmaf(CLIP, distorted, 25.0, program)


@pytest.mark.skipif(not HAS_FFMPEG, reason="needs the extra vmaf")
def test_more_blur_is_worse_and_a_smaller_version_is_scaled_up():
    import cv2

    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.integers(0, 256, (100, 120, 3)).astype(np.uint8), (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX)
    clip = np.stack([scene[k : k + 64, k : k + 96] for k in range(6)])
    blurred = [np.stack([cv2.GaussianBlur(f, (0, 0), s) for f in clip]) for s in (1, 3)]
    scores = [vmaf.vmaf(clip, version, 25.0) for version in (clip, *blurred)]
    assert 90 < scores[0] <= 100 and scores[0] > scores[1] > scores[2]
    assert vmaf.vmaf(clip, clip[:, ::2, ::2], 25.0) < scores[0]
