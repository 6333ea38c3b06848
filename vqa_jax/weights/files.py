"""Safetensors checkpoints as one table of keys: a file, an index of shards, or their folder."""

import collections
import json
import pathlib

import numpy as np
from safetensors import SafetensorError, safe_open

INDEX_NAME = "model.safetensors.index.json"


class WeightsError(ValueError):
    """A checkpoint that does not fit: says which file, which keys, and what to do."""

    def __init__(self, path: pathlib.Path, problems: dict[str, list[str]], remedy: str):
        """Lists `problems` (kind -> entries) in full; empty kinds are left out."""
        self.path = path
        self.problems = {kind: entries for kind, entries in problems.items() if entries}
        listed = [
            f"{kind} ({len(entries)}):\n" + "\n".join(f"  {entry}" for entry in entries)
            for kind, entries in self.problems.items()
        ]
        super().__init__("\n".join([f"{path}: the checkpoint does not fit.", *listed, remedy]))


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
    if path.suffix != ".json":
        return [path], None
    weight_map = json.loads(path.read_text())["weight_map"]
    return sorted({path.parent / name for name in weight_map.values()}), set(weight_map)


class Checkpoint:
    """Tensors by key, read one at a time from however many files hold them.

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
        self._handles = {}
        seen: collections.Counter[str] = collections.Counter()
        for file in files:
            if not file.is_file():
                raise WeightsError(self.path, {"missing files": [str(file)]}, "Fetch it again.")
            try:
                handle = safe_open(file, framework="np")
            except SafetensorError as error:
                raise WeightsError(file, {"unreadable": [str(error)]}, "Fetch it again.") from error
            for key in handle.keys():  # noqa: SIM118  (not a dict)
                self.shapes[key] = tuple(handle.get_slice(key).get_shape())
                self._handles[key] = handle
                seen[key] += 1
        self.duplicates = sorted(key for key, count in seen.items() if count > 1)
        promised = set(seen) if promised is None else promised
        self.absent = sorted(promised - set(seen))
        self.unindexed = sorted(set(seen) - promised)

    def read(self, key: str) -> np.ndarray:
        """One tensor in its stored dtype (bfloat16 as ml_dtypes.bfloat16)."""
        return self._handles[key].get_tensor(key)
