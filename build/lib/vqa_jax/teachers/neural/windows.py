"""Windows of a grid of tokens, as Swin transformers attend in them (Liu et al. 2021).

The grid has any number of axes: rows and columns of a frame, or time, rows and columns of a clip.
All that depends on sizes alone is NumPy, computed when a program is traced.
"""

import itertools
import math
from collections.abc import Callable

import jax
import numpy as np

Sizes = tuple[int, ...]
_BLOCK = 784  # tokens


def partition(grid: jax.Array | np.ndarray, window: Sizes) -> jax.Array | np.ndarray:
    """Cuts a grid into windows.

    Args:
        grid: [B, *sizes, D]; each size is a multiple of the window's.
        window: tokens along each axis.

    Returns:
        [B, W, N, D]: W windows and the N tokens of each, both in row-major order.
    """
    B, *sizes, D = grid.shape
    split = [x for size, w in zip(sizes, window, strict=True) for x in (size // w, w)]
    axes = range(1, 1 + len(split))
    order = (0, *axes[::2], *axes[1::2], len(split) + 1)
    return grid.reshape(B, *split, D).transpose(order).reshape(B, -1, math.prod(window), D)


def merge(windows: jax.Array, sizes: Sizes, window: Sizes) -> jax.Array:
    """The inverse of `partition`: [B, W, N, D] -> [B, *sizes, D]."""
    B, _, _, D = windows.shape
    counts = [size // w for size, w in zip(sizes, window, strict=True)]
    split = windows.reshape(B, *counts, *window, D)
    pairs = [axis for i in range(len(sizes)) for axis in (1 + i, 1 + len(sizes) + i)]
    return split.transpose(0, *pairs, 1 + 2 * len(sizes)).reshape(B, *sizes, D)


def strided_conv(grid: jax.Array, kernel: jax.Array) -> jax.Array:
    """A convolution whose stride is its size, as one matmul over the windows of a grid.

    Args:
        grid: [B, *sizes, C]; each size is a multiple of the kernel's.
        kernel: [*window, C, D].

    Returns:
        [B, *(sizes / window), D].
    """
    window = kernel.shape[:-2]
    counts = [size // w for size, w in zip(grid.shape[1:-1], window, strict=True)]
    y = partition(grid, window).reshape(grid.shape[0], *counts, -1)
    return y @ kernel.reshape(-1, kernel.shape[-1])


def per_token(function: Callable[[jax.Array], jax.Array], grid: jax.Array) -> jax.Array:
    """Applies a function of tokens [..., D] -> [..., D'], on CPU in blocks.

    An MLP's hidden values then stay in the cache; for whole clips they are hundreds of megabytes,
    which takes a core twice as long.
    """

    def blocks(grid: jax.Array) -> jax.Array:
        tokens = grid.reshape(-1, grid.shape[-1])
        found = jax.lax.map(function, tokens, batch_size=min(_BLOCK, len(tokens)))
        return found.reshape(*grid.shape[:-1], -1)

    return jax.lax.platform_dependent(grid, cpu=blocks, default=function)


def shift_for(sizes: Sizes, window: Sizes) -> Sizes:
    """Cyclic shift of every second block: half a window, none along an axis of a single window."""
    return tuple(0 if size <= w else w // 2 for size, w in zip(sizes, window, strict=True))


def regions(sizes: Sizes, window: Sizes, shift: Sizes) -> np.ndarray:
    """Which tokens of a window were neighbours before the cyclic shift.

    Returns:
        int32 [W, N]: tokens attend to each other where their numbers are equal.
    """
    labels = np.zeros(sizes, np.int32)
    cuts = [(slice(0, -s), slice(-s, None)) if s else (slice(None),) for s in shift]
    # The part that wraps round shares its last window with the part before it: two labels an axis
    # suffice, since no other window holds tokens of both.
    for number, block in enumerate(itertools.product(*cuts)):
        labels[block] = number
    return partition(labels[None, ..., None], window)[0, :, :, 0]


def unfolded(numbers: np.ndarray) -> jax.Array:
    """A constant that the compiler does not see through.

    What is computed from it for every pair of tokens would otherwise be folded into constants of
    hundreds of megabytes, in minutes.
    """
    return jax.lax.optimization_barrier(numbers)


def pair_offsets(window: Sizes, table_window: Sizes) -> np.ndarray:
    """Row of a table of relative position biases for each pair of tokens of a window.

    Args:
        window: tokens along each axis; not more than in `table_window`.
        table_window: window for which the table has a row an offset: prod(2 * w - 1) rows.

    Returns:
        int32 [N, N] for (query, key).
    """
    axes = np.meshgrid(*(np.arange(w) for w in window), indexing="ij")
    place = np.stack([axis.reshape(-1) for axis in axes], -1)
    offset = place[:, None] - place[None] + (np.array(table_window) - 1)
    row = np.zeros(offset.shape[:2], np.int32)
    for axis, w in enumerate(table_window):
        row = row * (2 * w - 1) + offset[..., axis].astype(np.int32)
    return row
