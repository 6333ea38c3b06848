"""Scores a second and core of the neural teachers, beside the same networks in torch.

    JAX_PLATFORMS=cpu taskset -c 0 \\
        .venv/bin/python -m tests.parity.teacher_throughput [--repeats 5]

Both run in one process, in float32, on the one core that it is bound to (so either uses one
thread), with the same weights and the same inputs; the calls alternate, and medians of CPU time are
compared. Outputs must agree, or nothing is reported.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from safetensors.numpy import save_file

from launch import convert_uvq
from tests.fixtures import torch_teachers, torch_uvq
from tests.fixtures.tolerances import TOLERANCES
from tests.parity.test_teachers_swin2d import _official, _reference, _with_head
from vqa_jax.teachers import looks
from vqa_jax.teachers.neural import minimalistic, uvq
from vqa_jax.teachers.neural import weights as teachers
from vqa_jax.teachers.neural.dover import Dover, DoverConfig
from vqa_jax.weights import named

Call = Callable[[np.ndarray], np.ndarray]


def _jitted(model: nnx.Module) -> Call:
    graphdef, state = nnx.split(model)
    call = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
    return lambda x: np.asarray(call(state, x))


def _in_torch(model: Callable[[torch.Tensor], torch.Tensor]) -> Call:
    def call(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return call


def dover_branch(name: str, cfg: DoverConfig) -> tuple[Call, Call]:
    """(ours, torch's) of a branch with random weights."""
    model = Dover(cfg, nnx.Rngs(0))
    state = teachers.official_state(model, teachers.DOVER)
    sizes = getattr(cfg, name)
    kind = torch_teachers.Swin3d if name == "technical" else torch_teachers.ConvNext3d
    twin = torch_teachers.branch(kind(sizes), sizes.feature_dim, cfg.head_dim, name, state)
    return _jitted(getattr(model, name)), _in_torch(twin)


def minimalistic_vii(cfg: minimalistic.MinimalisticConfig, side: int) -> tuple[Call, Call]:
    """(ours, torch's) with random weights; torch's is transformers' Swin and two linear layers."""
    reference = _reference(cfg.swin, side, seed=3)
    weights = _with_head(_official(reference, cfg.swin), cfg, np.random.default_rng(5))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "official.safetensors")
        save_file(weights, path)
        ours = _jitted(teachers.load_minimalistic(path, cfg))
    head = [torch.from_numpy(weights[f"quality.{n}"]) for n in ("0.weight", "0.bias")]
    last = [torch.from_numpy(weights[f"quality.{n}"]) for n in ("1.weight", "1.bias")]
    mean, std = map(torch.tensor, (minimalistic.PIXEL_MEAN, minimalistic.PIXEL_STD))

    def score(frames: torch.Tensor) -> torch.Tensor:
        pixels = ((frames.float() / 255 - mean) / std).permute(0, 3, 1, 2)
        features = reference(pixels).pooler_output
        hidden = torch.nn.functional.linear(features, *head)
        return torch.nn.functional.linear(hidden, *last)[:, 0]

    return ours, _in_torch(score)


def uvq_frames(cfg: uvq.UvqConfig) -> tuple[Call, Call]:
    """(ours, torch's) of UVQ 1.5 with random weights."""
    twin = torch_uvq.random(cfg, 3)
    parts = {
        part: {key: value.numpy() for key, value in getattr(twin, part).state_dict().items()}
        for part in ("content", "distortion", "aggregation")
    }
    model = nnx.eval_shape(lambda: uvq.Uvq(cfg, nnx.Rngs(0)))
    ours = convert_uvq.to_ours(parts, cfg.blocks)
    named.assign(model, {key: jnp.asarray(value, jnp.float32) for key, value in ours.items()})
    return _jitted(model), _in_torch(twin)


def networks() -> dict[str, tuple[Callable[[], tuple[Call, Call]], tuple[int, ...]]]:
    """Name -> (what makes the two of published size, shape of the uint8 input)."""
    clip, frames = (1, 32, 224, 224, 3), (2, 384, 384, 3)
    return {
        "technical (Video Swin-T, also FAST-VQA), a clip": (
            lambda: dover_branch("technical", DoverConfig()),
            clip,
        ),
        "aesthetic (ConvNeXt-T 3D), a clip": (
            lambda: dover_branch("aesthetic", DoverConfig()),
            clip,
        ),
        "MinimalisticVQA VII (Swin-B), two frames": (
            lambda: minimalistic_vii(minimalistic.VII, 384),
            frames,
        ),
        "UVQ 1.5, a frame": (lambda: uvq_frames(uvq.UvqConfig()), (1, *looks.UVQ_FRAME, 3)),
    }


def compare(ours: Call, theirs: Call, shape: tuple[int, ...], repeats: int) -> tuple[float, float]:
    """Median CPU seconds of (ours, theirs) over alternating calls on random frames of a shape."""
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_allclose(ours(frames), theirs(frames), **TOLERANCES["teacher_maps"])
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, kept in zip((ours, theirs), seconds, strict=True):
            start = time.process_time()
            call(frames)
            kept.append(time.process_time() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="networks whose name holds this")
    args = parser.parse_args()
    if len(os.sched_getaffinity(0)) != 1:
        sys.exit("bind it to one core: taskset -c 0 ...")
    sys.stdout.write(f"jax {jax.__version__}, torch {torch.__version__}\n")
    for name, (make, shape) in networks().items():
        if args.only in name:
            mine, torchs = compare(*make(), shape, args.repeats)
            text = f"{name}: {mine:.3f} s, torch {torchs:.3f} s, ratio {torchs / mine:.2f}"
            sys.stdout.write(text + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
