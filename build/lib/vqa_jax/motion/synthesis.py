"""Synthetic clips with known temporal distortions, to pretrain the small motion extractor on.

A camera moves over a photograph in front of which other pieces of photographs move; the result is
shaken, stuttered and degraded with continuous severities, then squashed like any motion clip.
NumPy and OpenCV only. The distortions are method 3.2's, with severities between its levels.
"""

import functools
import hashlib
import importlib.util
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from vqa_jax.extras import MissingExtraError

SEVERITIES = ("jitter", "stutter", "blur", "noise", "darken", "brighten", "blocks")
MAX_JITTER = 0.05  # largest shift as a fraction of the frame side that still has severity 1

# File inside the installed package of every built-in photograph. The held-out ones are those that
# the built-in scenes hold out, too.
_BUILTIN = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/rocket.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/retina.jpg"),
    ("skimage", "data/ihc.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("skimage", "data/grass.png"),
    ("skimage", "data/brick.png"),
    ("skimage", "data/gravel.png"),
)
_HELDOUT = frozenset({"coffee", "chelsea", "grace_hopper"})
_HELDOUT_SHARE = 0.25
_MAX_SIDE = 1600
_FRAME_SIZES = ((224, 126), (224, 126), (208, 156), (126, 224), (176, 176))  # width, height


@dataclass(frozen=True)
class SynthesisConfig:
    """Geometry of the clips.

    Args:
        size: side of the squashed clip in pixels.
        num_frames: frames of a clip.
    """

    size: int = 56
    num_frames: int = 32


def photographs(folders: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Paths of the training and of the held-out photographs.

    Args:
        folders: folders of further jpg and png pictures; a quarter, by content, is held out.

    Raises:
        FileNotFoundError: a package's photograph is missing, or a folder has no pictures.
        MissingExtraError: a package with photographs is not installed.
    """
    train, heldout = [], []
    for package, relative in _BUILTIN:
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise MissingExtraError(package, "prep")
        path = pathlib.Path(spec.submodule_search_locations[0]) / relative
        if not path.is_file():
            raise FileNotFoundError(f"{path}: install the exact {package} of requirements.txt")
        (heldout if path.stem in _HELDOUT else train).append(str(path))
    for folder in folders:
        found = sorted(p for p in pathlib.Path(folder).rglob("*") if p.suffix in (".jpg", ".png"))
        if not found:
            raise FileNotFoundError(f"{folder}: no jpg or png pictures there")
        for path in found:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            held = int(hashlib.sha256(digest.encode()).hexdigest()[:16], 16) / 2.0**64
            (heldout if held < _HELDOUT_SHARE else train).append(str(path))
    return train, heldout


def load_pyramid(path: str) -> list[np.ndarray]:
    """A photograph as uint8 RGB arrays, each half the one before, so that it is never aliased."""
    image = np.asarray(Image.open(path).convert("RGB"))
    scale = min(1.0, _MAX_SIDE / max(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    levels = [np.ascontiguousarray(image)]
    while min(levels[-1].shape[:2]) > 128:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    return levels


def synthetic_pair(
    pyramids: Sequence[list[np.ndarray]], config: SynthesisConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two differently distorted versions of one synthetic clip.

    Args:
        pyramids: photographs as `load_pyramid` gives them.
        config: geometry.
        rng: the only source of randomness.

    Returns:
        clips uint8 [2, K, S, S, 3] and severities float32 [2, len(SEVERITIES)], about [0, 1] each:
        sqrt(shift / MAX_JITTER), the share of repeated frames, and monotone codes of the others.
    """
    source = _source_clip(pyramids, config.num_frames, rng)
    versions = [_distorted(source, config.size, rng) for _ in range(2)]
    clips, severities = zip(*versions, strict=True)
    return np.stack(clips), np.stack(severities)


# --- Sources ------------------------------------------------------------------------------------


def _path(seconds: np.ndarray, rng: np.random.Generator, moving: float) -> np.ndarray:
    """Smooth path [K, 2] in frame widths: travel with probability `moving`, hand-held shake."""
    path = np.zeros((len(seconds), 2))
    if rng.random() < moving:
        speed = np.exp(rng.uniform(np.log(0.01), np.log(0.5)))  # frame widths a second
        angle = rng.uniform(0, 2 * np.pi)
        gait = seconds + rng.uniform(0, 0.4) * np.sin(rng.uniform(0.5, 4) * seconds + angle)
        path += speed * gait[:, None] * (np.cos(angle), np.sin(angle))
    if rng.random() < 0.5:
        strength = np.exp(rng.uniform(np.log(5e-4), np.log(1.5e-2)))
        for frequency in np.exp(rng.uniform(np.log(0.4), np.log(7.0), 4)):
            amplitude = strength * rng.uniform(-1, 1, 2) * min(1.0, 1.5 / frequency)
            phase = rng.uniform(0, 2 * np.pi, 2)
            path += amplitude * np.sin(2 * np.pi * frequency * seconds[:, None] + phase)
    return path


def _window(
    pyramid: list[np.ndarray], center: np.ndarray, width: float, angle: float, size: tuple[int, int]
) -> np.ndarray:
    """What a camera sees around `center`, `width` wide (both in photo pixels)."""
    scale = width / size[0]
    level = min(len(pyramid) - 1, max(0, round(np.log2(max(scale, 1e-6)))))
    image, shrink = pyramid[level], 0.5**level
    cos, sin = scale * shrink * np.cos(angle), scale * shrink * np.sin(angle)
    x, y = center * shrink
    half_w, half_h = size[0] / 2, size[1] / 2
    matrix = np.array(
        [[cos, -sin, x - cos * half_w + sin * half_h], [sin, cos, y - sin * half_w - cos * half_h]]
    )
    return cv2.warpAffine(
        image,
        matrix,
        size,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _blob(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Soft mask float32 [height, width, 1] of a random rounded shape."""
    mask = np.zeros((height, width), np.float32)
    points = rng.uniform(0.15, 0.85, (7, 2)) * (width, height)
    cv2.fillConvexPoly(mask, cv2.convexHull(points.astype(np.int32)), 1.0)
    return cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 2.0))[..., None]


def _source_clip(
    pyramids: Sequence[list[np.ndarray]], num_frames: int, rng: np.random.Generator
) -> np.ndarray:
    """An undistorted clip, uint8 [K, H, W, 3]."""
    size = _FRAME_SIZES[rng.integers(len(_FRAME_SIZES))]
    fps = rng.choice((24, 25, 30, 30, 30, 50, 60))
    seconds = np.arange(num_frames) / fps
    pyramid = pyramids[rng.integers(len(pyramids))]
    photo_height, photo_width = pyramid[0].shape[:2]
    width = min(photo_width, photo_height * size[0] / size[1]) * np.exp(
        rng.uniform(np.log(0.3), np.log(0.95))
    )
    width = max(width, size[0] * 0.6)
    start = rng.uniform(0.25, 0.75, 2) * (photo_width, photo_height)
    path = _path(seconds, rng, moving=0.6)
    centers = start + path * width
    zooms = np.exp(seconds * (rng.normal(0, 0.25) if rng.random() < 0.25 else 0.0))
    angles = rng.normal(0, 0.05) + seconds * (rng.normal(0, 0.1) if rng.random() < 0.2 else 0.0)
    exposure = rng.normal(0, 0.15) * np.sin(rng.uniform(0.5, 6) * seconds + rng.uniform(0, 6))
    gains = np.exp(exposure if rng.random() < 0.3 else 0 * exposure)
    frames = np.stack(
        [
            _window(pyramid, center, width * zoom, angle, size)
            for center, zoom, angle in zip(centers, zooms, angles, strict=True)
        ]
    )
    for _ in range(rng.choice((0, 0, 1, 2, 3))):
        _add_mover(frames, pyramids, seconds, path if rng.random() < 0.5 else 0 * path, rng)
    if np.any(gains != 1):
        frames = np.clip(frames * gains[:, None, None, None], 0, 255).astype(np.uint8)
    return frames


def _add_mover(frames, pyramids, seconds, camera_path, rng) -> None:
    """Draws a moving piece of another photograph into `frames`, in place."""
    height, width = frames.shape[1:3]
    w, h = (int(x) for x in rng.uniform(0.12, 0.6, 2) * (width, height))
    pyramid = pyramids[rng.integers(len(pyramids))]
    center = rng.uniform(0.2, 0.8, 2) * pyramid[0].shape[1::-1]
    texture = _window(pyramid, center, w * rng.uniform(0.8, 3), rng.uniform(-0.5, 0.5), (w, h))
    texture = texture.astype(np.float32)
    mask = _blob(w, h, rng)
    place = rng.uniform(0, 0.8, 2) * (width, height)
    path = place + (_path(seconds, rng, moving=0.9) - camera_path) * width
    sway = rng.uniform(0, 0.15) * np.sin(2 * np.pi * rng.uniform(0.2, 2) * seconds)
    for frame, (x, y), angle in zip(frames, path, sway, strict=True):
        cos, sin = np.cos(angle), np.sin(angle)
        left, top = int(np.floor(x)), int(np.floor(y))
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + w + 1, width), min(top + h + 1, height)
        if x1 <= x0 or y1 <= y0:
            continue
        shift_x = x - x0 + w / 2 - (cos * w - sin * h) / 2
        shift_y = y - y0 + h / 2 - (sin * w + cos * h) / 2
        matrix = np.array([[cos, -sin, shift_x], [sin, cos, shift_y]])
        region = frame[y0:y1, x0:x1]
        alpha = cv2.warpAffine(mask, matrix, (x1 - x0, y1 - y0))[..., None]
        piece = cv2.warpAffine(texture, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)
        region[:] = region + alpha * (piece - region)


# --- Distortions --------------------------------------------------------------------------------


def _distorted(
    source: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One version of a clip: squashed uint8 [K, S, S, 3] and its severities [len(SEVERITIES)]."""
    severity = dict.fromkeys(SEVERITIES, 0.0)
    frames = source
    kind = rng.choice(("none", "jitter", "stutter", "both"), p=(0.22, 0.35, 0.35, 0.08))
    if rng.random() < 0.3:
        frames = _spatial(frames, severity, rng)
    if kind in ("jitter", "both"):
        severity["jitter"] = rng.uniform(0.25, 1.1)
    after = rng.random() < 0.5  # noise and compression before or after the repeats
    if not after:
        frames = _recorded(frames, rng)
    shown = np.arange(len(frames))
    if kind in ("stutter", "both"):
        repeats = rng.random(len(frames) - 1) < rng.uniform(0.04, 0.72)
        severity["stutter"] = repeats.mean()
        shown[1:][repeats] = 0
        shown = np.maximum.accumulate(shown)
    if after:
        frames = _recorded(frames[shown], rng)
        shown = np.arange(len(frames))
    clip = _squashed(frames, size, MAX_JITTER * severity["jitter"] ** 2, rng)[shown]
    return clip, np.array([severity[name] for name in SEVERITIES], np.float32)


def _squashed(
    frames: np.ndarray, size: int, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Frames squashed to [K, size, size, 3], each cropped at its own shift of up to `fraction`.

    Cropping inside the resize is jitter's crop, resize back and squash in one go.
    """
    height, width = frames.shape[1:3]
    sides = np.array([width, height])
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        left_top = fraction * (1 + rng.uniform(-1, 1, 2)) * sides
        box = (*left_top, *(left_top + (1 - 2 * fraction) * sides))
        target[:] = Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, box)
    return out


def _spatial(frames: np.ndarray, severity: dict, rng: np.random.Generator) -> np.ndarray:
    """One spatial distortion of random severity, which it writes into `severity`."""
    kind = SEVERITIES[rng.integers(2, len(SEVERITIES))]
    amount = severity[kind] = rng.uniform(0.1, 1)
    if kind == "blur":
        return np.stack([cv2.GaussianBlur(f, (0, 0), 0.3 + 2.7 * amount) for f in frames])
    if kind == "noise":
        return _noisy(frames, 25 * amount, rng)
    if kind == "blocks":
        return _encoded(frames, round(60 * (1 - amount)) + 3)
    x = np.arange(256) / 255
    bend = (0.8 if kind == "darken" else -1.1) * amount
    table = np.clip(x - 2 * bend * x * (1 - x), 0, 1) * 255
    return table.round().astype(np.uint8)[frames]


def _encoded(frames: np.ndarray, quality: int) -> np.ndarray:
    settings = (cv2.IMWRITE_JPEG_QUALITY, quality)
    return np.stack(
        [cv2.imdecode(cv2.imencode(".jpg", f, settings)[1], cv2.IMREAD_COLOR) for f in frames]
    )


def _recorded(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Often mild sensor noise or compression: pristine videos have them, too; not to be judged."""
    choice = rng.random()
    if choice < 0.15:
        return _encoded(frames, int(rng.uniform(40, 95)))
    return _noisy(frames, rng.uniform(0.5, 6), rng) if choice < 0.3 else frames


def _noisy(frames: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Frames plus Gaussian noise of `std` gray levels, from random places of one fixed field."""
    height, width = frames.shape[1:3]
    field = _noise_field()
    out = np.empty_like(frames)
    for frame, target in zip(frames, out, strict=True):
        y, x = rng.integers(0, np.array(field.shape[:2]) - (height, width))
        noise = field[y : y + height, x : x + width]
        target[:] = cv2.addWeighted(frame, 1.0, noise, std, 0.0, dtype=cv2.CV_8U)
    return out


@functools.cache
def _noise_field() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((512, 512, 3), np.float32)
