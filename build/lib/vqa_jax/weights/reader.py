"""Safetensors checkpoints as one table of keys: a file, an index of shards, or their folder."""

from __future__ import annotations

import collections
import math
import pathlib

import numpy as np
from safetensors import SafetensorError, safe_open

from vqa_jax.errors import VqaError
from vqa_jax.jobs import fields

INDEX_NAME = "model.safetensors.index.json"

# Bytes of a number of the types that weights are stored in.
_ITEMSIZE = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "U8": 1, "BOOL": 1}


class WeightsError(VqaError, ValueError):
    """A checkpoint that does not fit: says which file, which keys, and what to do."""

    def __init__(self, path: pathlib.Path, problems: dict[str, list[str]], remedy: str):
        """Lists `problems` (kind -> entries) in full; empty kinds are left out."""
        self.path = path
        self.problems = {kind: entries for kind, entries in problems.items() if entries}
        listed = [
            f"{kind} ({len(entries)}):\n" + "\n".join(f"  {entry}" for entry in entries)
            for kind, entries in self.problems.items()
        ]
        what = f"{path}: the checkpoint does not fit."
        super().__init__("\n".join([what, *listed, remedy]) if listed else f"{what} {remedy}")


def _shards(path: pathlib.Path) -> tuple[list[pathlib.Path], set[str] | None]:
    """Files to read, and the keys that the index promises (None without an index)."""
    if path.is_dir():
        if (path / INDEX_NAME).is_file():
            path = path / INDEX_NAME
        else:
            found = sorted(path.glob("*.safetensors"))
            if not found:
                raise WeightsError(path, {}, "The folder holds no *.safetensors file.")
            return found, None
    if path.suffix in (".pth", ".pt", ".pyth", ".bin", ".ckpt"):
        raise WeightsError(
            path, {}, "This is a pickle, which is never read here: convert it to safetensors first."
        )
    if path.suffix != ".json":
        return [path], None

    def complain(text: str) -> WeightsError:
        return WeightsError(path, {}, text)

    raw = fields.read_object(path, complain)
    weight_map = fields.part(raw, "weight_map", dict, path.name, complain)
    for key, name in weight_map.items():
        parts = pathlib.PurePosixPath(name).parts if isinstance(name, str) else ("..",)
        if ".." in parts or name.startswith("/"):
            raise complain(f"{path.name}: weight_map.{key[:80]} names no file in its folder")
    return sorted({path.parent / name for name in weight_map.values()}), set(weight_map)


class Checkpoint:
    """Tensors by key, read one part at a time from however many files hold them.

    Attributes: path; shapes: key -> shape; duplicates: keys that more than one shard holds;
    unindexed, absent: keys in the shards but not in the index, and the other way round.
    """

    def __init__(self, path: str | pathlib.Path):
        """Reads the headers.

        Raises:
            WeightsError: a file is missing, or is not a safetensors file.
        """
        self.path = pathlib.Path(path)
        files, promised = _shards(self.path)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._files: dict[str, pathlib.Path] = {}
        self._dtypes: dict[str, str] = {}
        seen: collections.Counter[str] = collections.Counter()
        for file in files:
            if not file.is_file():
                raise WeightsError(self.path, {"missing files": [str(file)]}, "Fetch it again.")
            try:
                with safe_open(file, framework="np") as handle:
                    for key in handle.keys():  # noqa: SIM118  (not a dict)
                        header = handle.get_slice(key)
                        self.shapes[key] = tuple(header.get_shape())
                        self._dtypes[key] = header.get_dtype()
                        if self._dtypes[key] not in _ITEMSIZE:
                            raise SafetensorError(f"{key} is of type {self._dtypes[key]}")
                        self._files[key] = file
                        seen[key] += 1
            except (SafetensorError, OSError) as error:
                raise WeightsError(file, {"unreadable": [str(error)]}, "Fetch it again.") from error
        self.duplicates = sorted(key for key, count in seen.items() if count > 1)
        promised = set(seen) if promised is None else promised
        self.absent = sorted(promised - set(seen))
        self.unindexed = sorted(set(seen) - promised)

    def is_float(self, key: str) -> bool:
        """Whether a tensor holds floating-point numbers."""
        return "F" in self._dtypes[key]

    def is_bfloat16(self, key: str) -> bool:
        """Whether a tensor is stored in bfloat16, which loses nothing by staying in it."""
        return self._dtypes[key] == "BF16"

    def itemsize(self, key: str) -> int:
        """Bytes of one stored number of a tensor."""
        return _ITEMSIZE[self._dtypes[key]]

    def nbytes(self, key: str) -> int:
        """Bytes of a tensor."""
        return math.prod(self.shapes[key]) * self.itemsize(key)

    def read(self, key: str, part: tuple[slice, ...] | None = None) -> np.ndarray:
        """One tensor or a part of it, in the stored dtype (bfloat16 as ml_dtypes.bfloat16).

        The file is opened anew: its pages would otherwise stay mapped, and count as ours.
        """
        with safe_open(self._files[key], framework="np") as handle:
            return handle.get_tensor(key) if part is None else handle.get_slice(key)[part]
