"""Converts a torch pickle of SlowFast-R50 (pytorchvideo's names) to the safetensors that we read.

    pip install torch --index-url https://download.pytorch.org/whl/cpu    # for this script only
    python launch/convert_slowfast.py SLOWFAST_8x8_R50.pyth slowfast.safetensors

The pickle is read with `weights_only=True`, so it can hold tensors and cannot run code. Everything
in it is kept, under its own names; reading the result is then checked as `vqa_jax motion` reads it.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
_NESTS = ("model_state", "state_dict", "model")  # where files put the table of tensors
_PREFIXES = ("module.", "model.")  # that wrappers add to every name


def tensors_of(loaded: Any) -> dict[str, Any]:
    """The table of tensors in a loaded pickle, under pytorchvideo's names.

    Raises:
      ValueError: there is none, or two names become one.
    """
    while isinstance(loaded, Mapping) and (nest := next((n for n in _NESTS if n in loaded), None)):
        loaded = loaded[nest]
    if not isinstance(loaded, Mapping):
        raise ValueError("the file holds no table of tensors")
    found = {str(key): value for key, value in loaded.items() if hasattr(value, "detach")}
    if not found:
        raise ValueError("the file holds no tensor")
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in found):
            found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def load_pickle(path: str) -> dict[str, Any]:
    """Tensors of a torch file, each in memory of its own; what else is in it cannot run.

    Raises:
      OSError, RuntimeError, ValueError, pickle.UnpicklingError: the file holds no tensors.
    """
    import torch

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    # Two names of one memory cannot both be stored.
    return {key: value.detach().clone() for key, value in tensors_of(loaded).items()}


def run(
    name: str,
    about: str,
    convert: Callable[[str, str], str],
    argv: Sequence[str] | None,
    source: str = "torch file (.pyth, .pth, .pt)",
) -> int:
    """A converter's command line; a bad file is a line that says why, and nothing is written.

    Args:
      name: of the script.
      about: what it does.
      convert: turns the pickle at one path into safetensors at another, and says what it wrote.
      argv: arguments.
      source: what the first path is.
    """
    parser = argparse.ArgumentParser(prog=f"launch/{name}", description=about)
    parser.add_argument("pickle", help=source)
    parser.add_argument("safetensors", help="file to write")
    args = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))  # a script's own folder is on the path, the project is not
    if importlib.util.find_spec("torch") is None:
        sys.stderr.write("torch is missing: see the head of this script for how to install it\n")
        return 1

    from vqa_jax.jobs.files import replacing
    from vqa_jax.weights.reader import WeightsError

    try:
        with replacing(args.safetensors) as temporary:
            said = convert(args.pickle, temporary)
    except (OSError, RuntimeError, ValueError, WeightsError, pickle.UnpicklingError) as error:
        sys.stderr.write(f"{args.pickle}: {error}\n")
        return 1
    sys.stdout.write(f"{args.safetensors}: {said}\n")
    return 0


def _convert(source: str, destination: str) -> str:
    from safetensors.torch import save_file

    from vqa_jax.motion import weights

    found = load_pickle(source)
    save_file({key: value.contiguous() for key, value in found.items()}, destination)
    features = weights.load_features(destination)
    return f"{len(found)} tensors, {features.config.motion_dim} motion features"


def main(argv: Sequence[str] | None = None) -> int:
    """Converts one file."""
    return run("convert_slowfast.py", __doc__, _convert, argv)


if __name__ == "__main__":
    sys.exit(main())
