"""Writes a safetensors file of any size from pieces that never are in memory together."""

import json
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from vqa_jax.jobs.files import replacing

_DTYPE_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_HEADER_UNIT = 8  # the format wants the data aligned so


def write_safetensors(
    path: str | os.PathLike,
    tensors: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    pieces: Callable[[str], Iterator[np.ndarray]],
) -> None:
    """Writes the tensors one after the other; the file appears when it is complete.

    Args:
        path: of the file.
        tensors: name -> (shape, dtype).
        pieces: name -> arrays whose bytes, in order, are the tensor's in C order.

    Raises:
        ValueError: a tensor's pieces are not of its size, or its dtype is not known.
    """
    header, end = {}, 0
    for name, (shape, dtype) in tensors.items():
        if str(dtype) not in _DTYPE_NAMES:
            raise ValueError(f"{name} is {dtype}: weights are one of {sorted(_DTYPE_NAMES)}")
        start, end = end, end + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _DTYPE_NAMES[str(dtype)],
            "shape": list(shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_UNIT)
    with replacing(os.fspath(path)) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (_, dtype) in tensors.items():
            start = file.tell()
            for piece in pieces(name):
                # Bytes, since Python's buffers know no bfloat16.
                file.write(np.ascontiguousarray(piece, dtype).reshape(-1).view(np.uint8))
            begin, finish = header[name]["data_offsets"]
            if file.tell() - start != finish - begin:
                raise ValueError(f"{name}: {file.tell() - start} bytes, not {finish - begin}")
