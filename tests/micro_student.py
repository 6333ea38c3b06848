"""A student of the real architecture, small enough to compile for many meshes, and its batches."""

import jax
import numpy as np

from vqa_jax import optim, parallel, train_step
from vqa_jax.losses import LossConfig
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.qwen2 import Qwen2Config
from vqa_jax.models.siglip import SiglipConfig
from vqa_jax.models.student import StudentConfig

# Tower and decoder differ in depth, so that their scans can be told apart. Two key/value heads do
# not split four ways, four query heads do.
CONFIG = StudentConfig(
    vision=SiglipConfig(
        image_size=16, patch_size=8, embed_dim=16, mlp_dim=32, num_heads=4, num_layers=3
    ),
    llm=Qwen2Config(
        num_layers=2,
        embed_dim=32,
        mlp_dim=64,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        vocab_size=64,
        rope_theta=1e4,
    ),
    motion_dim=8,
)
FRAMES, MOTION, LENGTH = 2, 2, 24


def step_config(**changes) -> train_step.StepConfig:
    """No warm-up, so that the first step changes the weights."""
    fields = {
        "optim": optim.OptimConfig(10, 0, 1e-3, 0.05, 1.0, 0.98),
        "loss": LossConfig(),
        "severity_weight": 0.0,
        "level_ids": (3, 4, 5, 6, 7),
        "level_index": 1,
    }
    return train_step.StepConfig(**{**fields, **changes})


def batch(step: int, size: int = 8) -> dict[str, np.ndarray]:
    """A batch of random pictures, tokens and labels."""
    rng = np.random.default_rng([step, 5])
    bank = 2 * (FRAMES + 1 + MOTION)  # one pooled token a frame
    tokens = rng.integers(0, CONFIG.llm.vocab_size, (size, LENGTH))
    visual = rng.random((size, LENGTH)) < 0.5
    level = rng.integers(0, 5, size)
    return {
        "frames": rng.integers(0, 256, (size, 2, FRAMES, 16, 16, 3), dtype=np.uint8),
        "frame_mask": np.ones((size, 2, FRAMES), np.float32),
        "motion": rng.normal(size=(size, 2, MOTION, CONFIG.motion_dim)).astype(np.float32),
        "tokens": np.where(visual, -1 - rng.integers(0, bank, tokens.shape), tokens).astype(
            np.int32
        ),
        "answer_pos": np.tile(np.arange(LENGTH - 4, LENGTH - 1, dtype=np.int32), (size, 1)),
        "answer_ids": rng.integers(0, 64, (size, 3)).astype(np.int32),
        "loss_mask": np.ones((size, 3), np.float32),
        "level_probs": np.eye(5, dtype=np.float32)[level],
        "severity": np.full((size, 2), -1, np.int32),
        "group": np.zeros(size, np.int32),
        "example_mask": np.ones(size, np.float32),
    }


def run(student: FunctionalStudent, config, shape, steps: int):
    """State before, state after, and metric rows of `steps` steps on a mesh of fake devices."""
    mesh = parallel.make_mesh(shape, jax.devices()[: int(np.prod(shape))])
    step = train_step.make_train_step(student, config, mesh)
    state = train_step.init_state(student, config, seed=0)
    before = jax.device_get(state)
    state = jax.device_put(state, train_step.state_shardings(student, config, mesh))
    rows = []
    for t in range(steps):
        state, values = step(state, parallel.put_batch(batch(t), mesh))
        rows.append({k: float(v) for k, v in values.items()})
    return before, state, rows
