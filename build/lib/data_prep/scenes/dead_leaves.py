"""Dead-leaves pictures with photographic textures.

Lee, Mumford and Huang (2001), "Occlusion models for natural images": shapes whose sizes follow a
cubic power law hide one another, which gives the edges, flat parts and scale invariance of natural
images. Leaves are filled with cuts from photographs and shaded; no grain is ever added, because
pristine pictures must be clean.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from data_prep.scenes import photographs

_GREY = np.full((3, 3), 1.0 / 3.0, np.float32)


def sample_radii(
    rng: np.random.Generator, count: int, smallest: float, largest: float
) -> np.ndarray:
    """`count` radii with density proportional to r**-3 on [smallest, largest]: float64 [count]."""
    low, high = smallest**-2.0, largest**-2.0
    return (low - rng.random(count) * (low - high)) ** -0.5


def _outline(rng: np.random.Generator, radius: float) -> np.ndarray:
    """Corners of a random shape around the origin, within `radius`: float64 [N, 2]."""
    kind = rng.choice(5, p=(0.2, 0.25, 0.2, 0.15, 0.2))
    turn = rng.uniform(0, 2 * np.pi)
    if kind == 0 or kind == 1:  # disc, ellipse
        theta = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        aspect = 1.0 if kind == 0 else rng.uniform(0.25, 0.9)
        points = np.stack([np.cos(theta), aspect * np.sin(theta)], -1)
    elif kind == 2:  # polygon
        theta = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        points = np.stack([np.cos(theta), np.sin(theta)], -1) * rng.uniform(
            0.6, 1.0, (len(theta), 1)
        )
    elif kind == 3:  # bar: the straight edges of things people make
        aspect = rng.uniform(0.08, 0.6)
        points = np.array([[-1, -aspect], [1, -aspect], [1, aspect], [-1, aspect]])
        points /= np.hypot(1, aspect)
    else:  # blob
        theta = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        bumps = sum(
            rng.uniform(0, 0.5 / order) * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
            for order in range(2, 6)
        )
        points = np.stack([np.cos(theta), np.sin(theta)], -1) * (1 + bumps)[:, None]
        points /= np.linalg.norm(points, axis=-1).max()
    cos, sin = np.cos(turn), np.sin(turn)
    return points @ np.array([[cos, sin], [-sin, cos]]) * radius


def _mask(outline: np.ndarray, half: int) -> np.ndarray:
    """Anti-aliased coverage of the outline in a window of side 2 * half: float32 in [0, 1]."""
    mask = np.zeros((2 * half, 2 * half), np.uint8)
    corners = np.round((outline + half - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, lineType=cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255.0


def _fold(start: int, count: int, size: int) -> np.ndarray:
    """Indices start..start+count reflected at the borders of [0, size)."""
    index = np.arange(start, start + count) % (2 * size - 2)
    return np.where(index < size, index, 2 * size - 2 - index)


def _hue_matrix(angle: float, saturation: float) -> np.ndarray:
    """Rotation of colours about the grey axis, with a change of saturation: float32 [3, 3]."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3.0)
    rotation = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * _GREY
    return (saturation * rotation + (1 - saturation) * _GREY).astype(np.float32)


def cut_texture(rng: np.random.Generator, textures: Sequence[str], side: int) -> np.ndarray:
    """A random cut of one of the photographs `textures` (paths): float32 RGB [side, side, 3].

    Scale <= 1, so that it is sharp; flips, gain, contrast, hue and tint vary.
    """
    levels = photographs.texture_levels(textures[rng.integers(len(textures))])
    image = levels[rng.integers(len(levels))]
    height, width = image.shape[:2]
    y, x = int(rng.integers(height)), int(rng.integers(width))
    if y + side <= height and x + side <= width:
        patch = image[y : y + side, x : x + side]
    else:
        patch = image[_fold(y, side, height)[:, None], _fold(x, side, width)]
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    if rng.random() < 0.5:
        patch = patch.swapaxes(0, 1)
    patch = patch.astype(np.float32) * (1 / 255.0)
    mean = patch.mean(axis=(0, 1))
    # Most surfaces in real video are nearly plain; the rest keep their detail.
    contrast = rng.uniform(0.05, 0.35) if rng.random() < 0.35 else rng.uniform(0.5, 1.0)
    matrix = _hue_matrix(rng.normal(0, 0.35), rng.uniform(0.45, 1.15)) * rng.uniform(0.75, 1.25)
    tint = np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    matrix *= tint[:, None]
    offset = matrix @ mean * (1 - contrast)
    return cv2.transform(patch, np.concatenate([matrix * contrast, offset[:, None]], axis=1))


def leaf(
    rng: np.random.Generator, textures: Sequence[str], radius: float, soft: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """One leaf.

    Args:
        rng: source of randomness.
        textures: paths of the photographs to cut from.
        radius: its largest distance from the middle, in pixels.
        soft: standard deviation of the edge in pixels; 0 is a sharp anti-aliased edge.

    Returns:
        Colour float32 [2h, 2h, 3] and coverage float32 [2h, 2h] in [0, 1], h > radius.
    """
    half = int(np.ceil(radius + 3 * soft)) + 2
    mask = _mask(_outline(rng, radius), half)
    if soft > 0:
        mask = cv2.GaussianBlur(mask, (0, 0), soft)
    colour = cut_texture(rng, textures, 2 * half)
    unit = (np.arange(2 * half, dtype=np.float32) - half + 0.5) / radius
    slope = rng.uniform(-0.18, 0.18, 2).astype(np.float32)
    bulge = np.float32(rng.uniform(0.0, 0.3))
    shade = (1 + slope[0] * unit - bulge * unit**2) + (slope[1] * unit - bulge * unit**2)[:, None]
    colour *= np.clip(shade + 0.4 * bulge, 0.3, 1.4)[..., None]
    return colour, mask


def paste(
    canvas: np.ndarray, colour: np.ndarray, mask: np.ndarray, x: int, y: int, shadow: float = 0.0
) -> None:
    """Lay a leaf over `canvas` float32 [H, W, 3] in place, its window's corner at (x, y).

    `shadow` in [0, 1] darkens the surroundings on one side.
    """
    side = mask.shape[0]
    if shadow > 0:
        blurred = cv2.GaussianBlur(mask, (0, 0), max(0.08 * side, 0.8))
        shift = max(side // 14, 1)
        _blend(canvas, None, blurred * shadow, x + shift, y + shift)
    _blend(canvas, colour, mask, x, y)


def _blend(canvas: np.ndarray, colour: np.ndarray | None, mask: np.ndarray, x: int, y: int) -> None:
    """canvas += mask * (colour - canvas) on the overlap; colour None is black."""
    height, width = canvas.shape[:2]
    side = mask.shape[0]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, width), min(y + side, height)
    if x0 >= x1 or y0 >= y1:
        return
    window = canvas[y0:y1, x0:x1]
    inside = (slice(y0 - y, y1 - y), slice(x0 - x, x1 - x))
    coverage = mask[inside][..., None]
    window *= 1 - coverage
    if colour is not None:
        window += coverage * colour[inside]


def smooth_field(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A slowly varying field (sky, wall, haze): float32 [H, W] of zero mean and peak about 1."""
    field = np.zeros((height, width), np.float32)
    for cells, weight in ((2, 1.0), (4, 0.45), (8, 0.2)):
        coarse = rng.normal(0, 1, (cells + 2, cells + 2)).astype(np.float32)
        field += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    field -= field.mean()
    return field / max(float(np.abs(field).max()), 1e-6)


def smooth_canvas(
    rng: np.random.Generator, textures: Sequence[str], height: int, width: int
) -> np.ndarray:
    """A plain, softly lit backdrop in colours of the photographs: float32 [H, W, 3]."""
    top, bottom = (cut_texture(rng, textures, 24).mean(axis=(0, 1)) for _ in range(2))
    lift = rng.uniform(0.0, 0.5)  # walls and skies are brighter than the things before them
    top, bottom = top + lift * (0.95 - top), bottom + lift * (0.95 - bottom)
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    canvas = (1 - ramp) * top + ramp * bottom
    light = 1 + rng.uniform(0.02, 0.2) * smooth_field(rng, height, width)
    return (canvas * light[..., None]).astype(np.float32)


def leaves_canvas(
    rng: np.random.Generator,
    textures: Sequence[str],
    height: int,
    width: int,
    *,
    smallest: float,
    coverage: float = 2.5,
    horizon: float | None = None,
) -> np.ndarray:
    """A picture of occluding leaves: float32 RGB [H, W, 3], about [0, 1].

    Args:
        rng: source of randomness.
        textures: paths of the photographs to cut from.
        height, width: size in pixels.
        smallest: smallest radius in pixels; small ones make a busy picture.
        coverage: total area of the leaves over the area of the picture.
        horizon: None, or the height in [0, 1] from the top where the ground begins; leaves then
            lie below it, larger towards the viewer, and above it is a plain sky.
    """
    largest = 0.45 * min(height, width)
    canvas = smooth_canvas(rng, textures, height, width)
    # Mean area: pi E[r^2] under the cubic law, times the share of a disc that a shape fills.
    mean_area = 0.6 * np.pi * 2 * np.log(largest / smallest) / (smallest**-2 - largest**-2)
    ground = height * (1 - (horizon or 0.0))
    count = int(min(coverage * ground * width / mean_area, 2500))
    radii = sample_radii(rng, count, smallest, largest)
    x = rng.uniform(0, width, count)
    y = rng.uniform(height - ground, height, count)
    if horizon is not None:
        order = np.argsort(y)
        x, y = x[order], y[order]
        nearness = (y - (height - ground)) / ground
        radii = np.minimum(radii * (0.5 + 1.5 * nearness), largest * (0.15 + 0.85 * nearness))
        radii = np.maximum(radii, 2.5)
    shadow = rng.uniform(0.1, 0.5)
    for i in range(count):
        soft = radii[i] * rng.uniform(0.03, 0.2) if rng.random() < 0.12 else 0.0
        colour, mask = leaf(rng, textures, radii[i], soft)
        half = mask.shape[0] // 2
        casts = shadow if radii[i] > 9 and rng.random() < 0.6 else 0.0
        paste(canvas, colour, mask, int(x[i]) - half, int(y[i]) - half, casts)
    return canvas
