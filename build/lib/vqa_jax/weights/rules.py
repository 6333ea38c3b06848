"""One rule a parameter: where it is in a foreign checkpoint, and how to read it in blocks."""

import dataclasses
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

Path = tuple[str, ...]
Index = tuple[slice, ...]

BLOCK_BYTES = 2**28  # read at once: bounds what loading holds in host memory


class Block(NamedTuple):
    """A part of one of our arrays, and what to read for it.

    key: foreign tensor. theirs: slices of that tensor, or None for all of it. ours: the slices of
    our whole array that it fills.
    """

    key: str
    theirs: Index | None
    ours: Index


@dataclasses.dataclass(frozen=True)
class Rule:
    """One parameter of ours and where it is elsewhere.

    path: in our tree. key: foreign key, with {layer} where ours is stacked. kind: "same" (the very
    array), "copy" (reshape only), "linear" (foreign [out, in]) or "conv" (foreign [out, channels,
    h, w]). in_axes: how many of our leading axes (after `layers`) are inputs of a linear layer.
    """

    path: Path
    key: str
    kind: str = "copy"
    in_axes: int = 1

    @property
    def stacked(self) -> bool:
        """Whether our array has a leading `layers` axis."""
        return "{layer}" in self.key

    def keys(self, shape: tuple[int, ...]) -> list[str]:
        """Foreign keys that fill our array of this shape, in the order of its layers."""
        if not self.stacked:
            return [self.key]
        return [self.key.format(layer=layer) for layer in range(shape[0])]

    def foreign_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one foreign tensor, from the shape of our whole array."""
        own = shape[1:] if self.stacked else shape
        if self.kind == "same":
            return own
        if self.kind == "linear":
            return math.prod(own[self.in_axes :]), math.prod(own[: self.in_axes])
        if self.kind == "conv":
            return own[3], own[2], own[0], own[1]
        return own if len(own) == 2 and not self.stacked else (math.prod(own),)

    def blocks(self, shape: tuple[int, ...], itemsize: int) -> Iterator[Block]:
        """Cuts our array of this shape into blocks of whole rows, in the order of its bytes.

        Args:
            shape: of our whole array.
            itemsize: bytes of a foreign number.
        """
        own = shape[1:] if self.stacked else shape
        row_bytes = itemsize * math.prod(own[1:])
        step = max(1, BLOCK_BYTES // max(1, row_bytes))
        whole = tuple(slice(0, size) for size in own[1:])
        for layer, key in enumerate(self.keys(shape)):
            front = (slice(layer, layer + 1),) if self.stacked else ()
            for start in range(0, own[0], step):
                rows = slice(start, min(start + step, own[0]))
                theirs = None if step >= own[0] else self._foreign_slices(own, rows)
                yield Block(key, theirs, (*front, rows, *whole))

    def _foreign_slices(self, own: tuple[int, ...], rows: slice) -> Index:
        """Where the rows (first axis) of one layer of ours are in its foreign tensor."""
        full = [slice(0, size) for size in self.foreign_shape((1, *own) if self.stacked else own)]
        if self.kind == "linear":  # our first axis leads the axes that became their columns
            width = math.prod(own[1 : self.in_axes])
            full[1] = slice(rows.start * width, rows.stop * width)
        elif self.kind == "conv":
            full[2] = rows
        else:
            width = math.prod(own) // own[0] if len(full) == 1 else 1
            full[0] = slice(rows.start * width, rows.stop * width)
        return tuple(full)

    def arrange(self, tensor: np.ndarray, block: Block) -> np.ndarray:
        """What was read for a block, in our shape (a view where one exists)."""
        shape = tuple(part.stop - part.start for part in block.ours)
        return self.from_foreign(tensor, shape)

    def from_foreign(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """A foreign tensor in our shape (one layer, with its axis, where ours is stacked)."""
        if self.kind == "linear":
            return tensor.T.reshape(shape)
        return tensor.transpose(2, 3, 1, 0) if self.kind == "conv" else tensor.reshape(shape)

    def to_foreign(self, array: np.ndarray) -> np.ndarray:
        """One layer of ours as the foreign tensor; inverse of `from_foreign`."""
        if self.kind == "same":
            return array
        if self.kind == "linear":
            return array.reshape(math.prod(array.shape[: self.in_axes]), -1).T
        if self.kind == "conv":
            return array.transpose(3, 2, 0, 1)
        return array if array.ndim == 2 and not self.stacked else array.reshape(-1)
