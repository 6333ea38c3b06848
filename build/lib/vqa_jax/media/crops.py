"""What the student looks at of stored frames: random crops in training, centre crops in scoring."""

from __future__ import annotations

import numpy as np

from vqa_jax.media.preprocess import Preprocess

_TOKENS = 3  # axes of what a frozen tower made of tiles [N, P, W], which is not cut any more


def crop_tiles(tiles: np.ndarray, size: int, chosen: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Cuts `size` windows out of chosen tiles [N, T, T, 3] at offsets int [n, 2] (y, x)."""
    return np.stack(
        [tiles[i, y : y + size, x : x + size] for i, (y, x) in zip(chosen, offsets, strict=True)]
    )


def _draw_crops(count: int, slack: int, num_frames: int, rng: np.random.Generator):
    chosen = rng.permutation(count)[:num_frames]
    return chosen, rng.integers(0, slack + 1, (len(chosen), 2))


def training_frames(
    first: np.ndarray,
    second: np.ndarray,
    pre: Preprocess,
    num_frames: int,
    same_crops: float,
    rngs: tuple[np.random.Generator, np.random.Generator],
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of a pair as the student sees them in training.

    Args:
      first: stored frames of the first video [N, T, T, 3], or what a frozen tower made of them,
        [N, P, W].
      second: of the second one.
      pre: how they were stored.
      num_frames: most frames of a video: of more, a squashed view is thinned evenly, others
        are drawn from.
      same_crops: probability that both show the same crops, where both have as many.
      rngs: the first one decides the first video's crops alone, so that pairs with one first video
        can show it alike; the second one decides the rest.

    Returns:
      Two arrays [F, S, S, 3], F <= num_frames.
    """
    if pre.view == "squash":
        return _thin(first, num_frames), _thin(second, num_frames)
    if pre.view == "fit":
        return tuple(
            frames[np.sort(rng.permutation(len(frames))[:num_frames])]
            for frames, rng in zip((first, second), rngs, strict=True)
        )
    slack = 0 if first.ndim == _TOKENS else pre.tile_size - pre.image_size
    draw = _draw_crops(len(first), slack, num_frames, rngs[0])
    other = draw
    if len(second) != len(first) or rngs[1].random() >= same_crops:
        other = _draw_crops(len(second), slack, num_frames, rngs[1])
    if first.ndim == _TOKENS:
        return first[draw[0]], second[other[0]]
    return crop_tiles(first, pre.image_size, *draw), crop_tiles(second, pre.image_size, *other)


def _thin(frames: np.ndarray, most: int) -> np.ndarray:
    if len(frames) <= most:
        return frames
    return frames[np.linspace(0, len(frames) - 1, most).round().astype(int)]


def scoring_groups(frames: np.ndarray, pre: Preprocess, num_frames: int) -> np.ndarray:
    """Frames of a video as the student sees them in scoring: [G, F, H, W, 3].

    A crops view is cut to centre crops. These, or fitted frames, are dealt into groups of
    `num_frames`, so that each group spans the video (and the frame); the groups' level logits are
    averaged. A squashed view is one group.
    """
    if pre.view == "squash":
        return _thin(frames, num_frames)[None]
    if pre.view == "crops" and frames.ndim != _TOKENS:
        edge = (pre.tile_size - pre.image_size) // 2
        frames = frames[:, edge : edge + pre.image_size, edge : edge + pre.image_size]
    groups = max(1, len(frames) // num_frames)
    return np.stack([frames[g::groups][:num_frames] for g in range(groups)])
