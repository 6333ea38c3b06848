"""Weights of the neural teachers under their official names: one table of rules a network.

The released files are torch pickles; store the dictionary of tensors as safetensors first. UVQ's
are three, with batch norms to fold: `launch/convert_uvq.py` makes one file of them, under our
names. Loading is complete or fails with the list of what does not fit; nothing keeps random values.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from vqa_jax.teachers.neural.dover import Dover, DoverConfig
from vqa_jax.teachers.neural.fast_vqa import FastVqa, FastVqaConfig
from vqa_jax.teachers.neural.minimalistic import MinimalisticConfig, MinimalisticVqa
from vqa_jax.teachers.neural.uvq import Uvq, UvqConfig
from vqa_jax.weights import named
from vqa_jax.weights.reader import Checkpoint, WeightsError

Model = TypeVar("Model", bound=nnx.Module)
# Pattern of our path and the official key that it expands to, tried in order.
Rules = tuple[tuple[str, str], ...]

_STAGES = 4
_LEAVES = {"kernel": "weight", "scale": "weight"}

_SWIN3D: Rules = (
    (r"patch_(kernel|bias)", r"patch_embed.proj.\1"),
    (r"patch_norm/(.+)", r"patch_embed.norm.\1"),
    (r"stages/(\d)/blocks/(\d+)/(norm\d)/(.+)", r"layers.\1.blocks.\2.\3.\4"),
    (r"stages/(\d)/blocks/(\d+)/attn/(qkv|proj)/(.+)", r"layers.\1.blocks.\2.attn.\3.\4"),
    (
        r"stages/(\d)/blocks/(\d+)/attn/(relative|fragment)_table",
        r"layers.\1.blocks.\2.attn.\3_position_bias_table",
    ),
    (r"stages/(\d)/blocks/(\d+)/up/(.+)", r"layers.\1.blocks.\2.mlp.fc1.\3"),
    (r"stages/(\d)/blocks/(\d+)/down/(.+)", r"layers.\1.blocks.\2.mlp.fc2.\3"),
    (r"stages/(\d)/downsample/(norm|reduction)/(.+)", r"layers.\1.downsample.\2.\3"),
    (r"norm/(.+)", r"norm.\1"),
)
_CONVNEXT3D: Rules = (
    (r"stem/(.+)", r"downsample_layers.0.0.\1"),
    (r"stem_norm/(.+)", r"downsample_layers.0.1.\1"),
    (r"stages/(\d)/downsample/norm/(.+)", r"downsample_layers.\1.0.\2"),
    (r"stages/(\d)/downsample/conv/(.+)", r"downsample_layers.\1.1.\2"),
    (r"stages/(\d)/blocks/(\d+)/depthwise/(.+)", r"stages.\1.\2.dwconv.\3"),
    (r"stages/(\d)/blocks/(\d+)/norm/(.+)", r"stages.\1.\2.norm.\3"),
    (r"stages/(\d)/blocks/(\d+)/up/(.+)", r"stages.\1.\2.pwconv1.\3"),
    (r"stages/(\d)/blocks/(\d+)/down/(.+)", r"stages.\1.\2.pwconv2.\3"),
    (r"stages/(\d)/blocks/(\d+)/gamma", r"stages.\1.\2.gamma"),
    (r"norm/(.+)", r"norm.\1"),
)


def _swin2d() -> Iterator[tuple[str, str]]:
    """torchvision's names: its one list of layers holds stages at odd places, merging at even."""
    yield r"patch_(kernel|bias)", r"features.0.0.\1"
    yield r"patch_norm/(.+)", r"features.0.2.\1"
    for stage in range(_STAGES):
        ours, theirs = rf"stages/{stage}/blocks/(\d+)", rf"features.{2 * stage + 1}.\1"
        yield rf"{ours}/(norm\d)/(.+)", rf"{theirs}.\2.\3"
        yield rf"{ours}/attn/(qkv|proj)/(.+)", rf"{theirs}.attn.\2.\3"
        yield rf"{ours}/attn/relative_table", rf"{theirs}.attn.relative_position_bias_table"
        yield rf"{ours}/up/(.+)", rf"{theirs}.mlp.0.\2"
        yield rf"{ours}/down/(.+)", rf"{theirs}.mlp.3.\2"
        merging = rf"features.{2 * stage + 2}"
        yield rf"stages/{stage}/downsample/(norm|reduction)/(.+)", rf"{merging}.\1.\2"
    yield r"norm/(.+)", r"norm.\1"


_HEAD: Rules = ((r"hidden/(.+)", r"fc_hid.\1"), (r"last/(.+)", r"fc_last.\1"))


def _under(ours: str, theirs: str, rules: Rules) -> Rules:
    """Rules of a part of a model."""
    return tuple((ours + pattern, theirs + key) for pattern, key in rules)


FAST_VQA = (
    *_under("backbone/", "fragments_backbone.", _SWIN3D),
    *_under("head/", "vqa_head.", _HEAD),
)
DOVER = (
    *_under("technical/backbone/", "technical_backbone.", _SWIN3D),
    *_under("technical/head/", "technical_head.", _HEAD),
    *_under("aesthetic/backbone/", "aesthetic_backbone.", _CONVNEXT3D),
    *_under("aesthetic/head/", "aesthetic_head.", _HEAD),
)
MINIMALISTIC = (
    *_under("backbone/", "feature_extraction.", tuple(_swin2d())),
    (r"hidden/(.+)", r"quality.0.\1"),
    (r"last/(.+)", r"quality.1.\1"),
)
# Tables of offsets that the official code stores although it recomputes them.
_IGNORED = re.compile(r".+\.relative_position_index")


def load_fast_vqa(path: str | pathlib.Path, cfg: FastVqaConfig = FastVqaConfig()) -> FastVqa:
    """FAST-VQA from safetensors with the official names; errors of `load_network`."""
    return load_network(path, nnx.eval_shape(lambda: FastVqa(cfg, nnx.Rngs(0))), FAST_VQA)


def load_dover(path: str | pathlib.Path, cfg: DoverConfig = DoverConfig()) -> Dover:
    """DOVER from safetensors with the official names; errors of `load_network`."""
    return load_network(path, nnx.eval_shape(lambda: Dover(cfg, nnx.Rngs(0))), DOVER)


def load_minimalistic(path: str | pathlib.Path, cfg: MinimalisticConfig) -> MinimalisticVqa:
    """MinimalisticVQA VII or IX from safetensors with the official names (torchvision's Swin-B).

    IX takes its motion features from a SlowFast file (`vqa_jax.motion.network.load`). Raises
    WeightsError, see `load_network`.
    """
    model = nnx.eval_shape(lambda: MinimalisticVqa(cfg, nnx.Rngs(0)))
    return load_network(path, model, MINIMALISTIC)


def load_uvq(path: str | pathlib.Path, cfg: UvqConfig = UvqConfig()) -> Uvq:
    """UVQ 1.5 as `launch/convert_uvq.py` writes it; WeightsError names all that does not fit."""
    model = nnx.eval_shape(lambda: Uvq(cfg, nnx.Rngs(0)))
    named.fill(Checkpoint(path), model, "Make it with launch/convert_uvq.py.")
    return model


def load_network(path: str | pathlib.Path, abstract: Model, rules: Rules) -> Model:
    """Fills a model with the tensors of a file.

    Args:
        path: safetensors file, index file of shards, or a folder with either.
        abstract: the model by shapes alone (`nnx.eval_shape`).
        rules: table of the file's names.

    Returns:
        The model with float32 weights.

    Raises:
        WeightsError: with every missing, unexpected, duplicate and misshapen key.
    """
    checkpoint = Checkpoint(path)
    state = nnx.state(abstract, nnx.Param)
    flat = {tuple(where): param for where, param in state.flat_state()}
    keys = {where: official_key("/".join(map(str, where)), rules) for where in flat}
    found, wanted = checkpoint.shapes, set(keys.values())
    shapes = {key: _foreign_shapes(where[-1], flat[where].shape) for where, key in keys.items()}
    problems = {
        "missing": sorted((wanted - set(found)) | set(checkpoint.absent)),
        "unexpected": sorted(k for k in found if k not in wanted and not _IGNORED.fullmatch(k)),
        "duplicate": checkpoint.duplicates,
        "not in the index": checkpoint.unindexed,
        "misshapen": [
            f"{key}: {found[key]} instead of {shape[0]}"
            for key, shape in sorted(shapes.items())
            if key in found and found[key] not in shape
        ],
    }
    if any(problems.values()):
        remedy = f"Give the official weights of {type(abstract).__name__} of these sizes."
        raise WeightsError(checkpoint.path, problems, remedy)
    for where, param in flat.items():
        tensor = checkpoint.read(keys[where]).astype(np.float32)
        param.set_value(jnp.asarray(_to_ours(where[-1], tensor, param.shape)))
    nnx.update(abstract, state)
    return abstract


def official_state(model: nnx.Module, rules: Rules) -> dict[str, np.ndarray]:
    """The parameters under the official names, without the tables that are recomputed.

    Convolutions of one place come out as the linear layers that they are.
    """
    out = {}
    for where, param in nnx.state(model, nnx.Param).flat_state():
        value = np.asarray(param[...])
        if _is_kernel(where[-1]):
            value = value.transpose(-1 % value.ndim, value.ndim - 2, *range(value.ndim - 2))
        out[official_key("/".join(map(str, where)), rules)] = np.ascontiguousarray(value)
    return out


def official_key(path: str, rules: Rules) -> str:
    """The official key of our parameter `path` (names joined by "/").

    Raises:
        KeyError: no rule names such a parameter.
    """
    for pattern, key in rules:
        if match := re.fullmatch(pattern, path):
            stem, _, leaf = match.expand(key).rpartition(".")
            return f"{stem}.{_LEAVES.get(leaf, leaf)}"
    raise KeyError(f"no rule for parameter {path}")


def _is_kernel(leaf: str) -> bool:
    return leaf in ("kernel", "patch_kernel")


def _foreign_shapes(leaf: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Shapes that the foreign tensor may have; heads are stored as convolutions of one place."""
    if not _is_kernel(leaf):
        return (shape,)
    linear = (shape[-1], shape[-2], *shape[:-2])
    return (linear, (*linear, 1, 1, 1)) if len(shape) == 2 else (linear,)


def _to_ours(leaf: str, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[out, in, *window] -> [*window, in, out]; all else as it is."""
    if _is_kernel(leaf):
        tensor = tensor.transpose(*range(2, tensor.ndim), 1, 0)
    return tensor.reshape(shape)
