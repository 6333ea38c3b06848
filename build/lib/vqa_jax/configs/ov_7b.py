"""The student of published size, 8B parameters, on a TPU pod slice or a GPU node.

    python -m vqa_jax train --config ov_7b:authors --data CORPUS --workdir DIR \
        --config.train.init_from=STUDENT --config.train.mesh=1,-1,1

After the colon comes what is trained and how (method 6): `paper` (everything, at the paper's
rates), `authors` (their script: vision tower and projectors), `projectors` or `lora`. The corpus is
that of configs/paper.py. On more than 8 devices raise train.input.batch_size to a multiple of
their number, and divide the steps by as much.
"""

from ml_collections import ConfigDict

from configs import paper

# Path patterns -> factor on the peak rate. The authors' vision tower learns at 2e-6, not 1e-5.
_PROJECTORS = {"vision_projector/*": 1.0, "motion_projector/*": 1.0}
_PRESETS = {
    "paper": {"*": 1.0},
    "authors": {"vision/*": 0.2, **_PROJECTORS},
    "projectors": _PROJECTORS,
    "lora": {"llm/layers/lora_*": 1.0, **_PROJECTORS},
}
_PAIRS, _BATCH = 200_000, 8  # v5 of the paper: 25,000 steps of 8 pairs


def get_config(preset: str = "authors") -> ConfigDict:
    """Stage 1 at published size.

    Args:
      preset: "paper", "authors", "projectors" or "lora".
    """
    if preset not in _PRESETS:
        raise ValueError(f"preset {preset!r}: one of {sorted(_PRESETS)}")
    config = paper.get_config()
    config.student = "ov_7b"
    config.severity_simulators = ()

    train = config.train
    train.severity_weight = 0.0
    train.mesh = (1, -1, 1)
    train.trainable = _PRESETS[preset]
    train.lora_rank = 64 if preset == "lora" else 0
    train.remat = "full"
    train.checkpoint_every = 500
    train.heldout_pairs = 256
    train.input.batch_size = _BATCH
    train.input.num_frames = 10
    train.input.answer = "sentence"
    train.optim.total_steps = _PAIRS // _BATCH
    train.optim.warmup_steps = round(0.03 * train.optim.total_steps)
    train.optim.b2 = 0.999
    train.optim.peak_lr = 1e-4 if preset in ("paper", "lora") else 1e-5
    train.optim.weight_decay = 0.05 if preset == "paper" else 0.0
    return config
