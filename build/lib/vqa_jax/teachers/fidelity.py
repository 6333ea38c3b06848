"""How close a version of a clip is to its source: PSNR, SSIM and, by an FFmpeg, VMAF, over time.

Measures with a reference, beside the student's opinion, which has none. Blocks of two
seconds, or less of large frames, are read from both files at once: what is held stays the same,
however long they are.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from PIL import Image

from vqa_jax.media.container import MediaError
from vqa_jax.media.decode import isolated_frames
from vqa_jax.media.probe import VideoInfo
from vqa_jax.settings import DecodeLimits
from vqa_jax.teachers import vmaf

BLOCK_SECONDS = 2.0
MOST_PSNR = 100.0  # dB, of equal frames
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
_ROWS = 4  # and columns of SSIM's cells; a window is two by two of them
_PADDED = 1  # pixels that an encoder adds to odd sides
_WINDOW = (2 * _ROWS) ** 2  # pixels
_C1, _C2 = (0.01 * 255) ** 2 * _WINDOW, (0.03 * 255) ** 2 * _WINDOW * (_WINDOW - 1)
_SAME_RATE = 0.005
_BLOCK_BYTES = 256e6  # of either version, at most


@dataclasses.dataclass(frozen=True)
class OverTime:
    """One measure of one version: mean over all frames, and what 5% of the blocks are below."""

    mean: float
    percentile_5: float


def measure(
    source: VideoInfo,
    version: VideoInfo,
    first: int,
    limits: DecodeLimits,
    program: str | None = None,
) -> dict[str, OverTime]:
    """PSNR (dB), SSIM (0..1) and VMAF (0..100) of a version, by name; higher is better.

    PSNR and SSIM are of the luma (BT.709) at the source's size; a version of another size is
    scaled to it, bicubic. SSIM (Wang et al. 2004) is that of x264 and FFmpeg: windows of 8 x 8
    pixels, four apart, without a Gaussian.

    Args:
      source, version: of `probe.probe`.
      first: frame of the source with which the version starts.
      limits: of a file; its seconds are each block's.
      program: an FFmpeg with libvmaf; None leaves VMAF out.

    Raises:
      MediaError: a file cannot be read, they have no frame in common, or other frame rates.
      VmafError: the program fails.
    """
    count = min(version.num_frames, source.num_frames - first)
    if count < 1:
        raise MediaError(version.path, "probe", "has no frame in common with its source")
    most = _BLOCK_BYTES / (3 * source.width * source.height)
    if abs(version.fps / source.fps - 1) > _SAME_RATE:
        reason = f"has {version.fps:.3f} frames a second, its source {source.fps:.3f}"
        raise MediaError(version.path, "probe", reason)
    size = max(1, int(min(BLOCK_SECONDS * source.fps, most)))
    limits = dataclasses.replace(limits, seconds=limits.seconds * -(-count // size))
    found: dict[str, list[np.ndarray]] = {}
    pairs = zip(
        isolated_frames(source, range(first, first + count), limits),
        isolated_frames(version, range(count), limits),
        strict=False,
    )
    while block := list(itertools.islice(pairs, size)):
        reference = np.stack([one for (_, one), _ in block])
        shown = np.stack([_fitted(other, reference.shape[1:3]) for _, (_, other) in block])
        values = luma_fidelity(reference, shown)
        if program is not None:
            score = vmaf.vmaf(reference, shown, source.fps, program)
            values["vmaf"] = np.full(len(block), score)
        for name, frames in values.items():
            found.setdefault(name, []).append(frames)
    return {
        name: OverTime(
            float(np.concatenate(blocks).mean()),
            float(np.percentile([frames.mean() for frames in blocks], 5)),
        )
        for name, blocks in found.items()
    }


def luma_fidelity(reference: np.ndarray, distorted: np.ndarray) -> dict[str, np.ndarray]:
    """PSNR and SSIM of each frame: arrays [T] for uint8 RGB [T, H, W, 3] of one shape."""
    psnr, ssim = [], []
    for frames in zip(reference, distorted, strict=True):
        one, other = (frame.astype(np.float32) @ _LUMA for frame in frames)
        error = float(np.square(one - other, dtype=np.float64).mean())
        psnr.append(min(MOST_PSNR, 10 * np.log10(255**2 / error)) if error else MOST_PSNR)
        ssim.append(_ssim(one, other))
    return {"psnr": np.array(psnr), "ssim": np.array(ssim)}


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Mean SSIM of two pictures [H, W] over windows of 2 x 2 cells, in x264's sums."""
    moments = (one, other, one * one + other * other, one * other)
    a, b, squares, product = (_windows(moment) for moment in moments)
    variance = _WINDOW * squares - a * a - b * b
    covariance = _WINDOW * product - a * b
    luminance = (2 * a * b + _C1) / (a * a + b * b + _C1)
    return float((luminance * (2 * covariance + _C2) / (variance + _C2)).mean())


def _windows(picture: np.ndarray) -> np.ndarray:
    """Sums over all windows; a picture smaller than one is repeated at its edges."""
    height, width = picture.shape
    extra = [(0, max(0, 2 * _ROWS - side)) for side in (height, width)]
    picture = np.pad(picture, extra, mode="edge")
    height, width = (side // _ROWS for side in picture.shape)
    cells = picture[: height * _ROWS, : width * _ROWS].reshape(height, _ROWS, width, _ROWS)
    sums = cells.sum(axis=(1, 3), dtype=np.float64)
    return sums[:-1, :-1] + sums[1:, :-1] + sums[:-1, 1:] + sums[1:, 1:]


def _fitted(frame: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A frame at the source's (height, width): without an encoder's padding, else scaled."""
    extra = [side - wanted for side, wanted in zip(frame.shape[:2], shape, strict=True)]
    if min(extra) >= 0 and max(extra) <= _PADDED:
        return frame[: shape[0], : shape[1]]
    return np.asarray(Image.fromarray(frame).resize(shape[::-1], Image.Resampling.BICUBIC))
