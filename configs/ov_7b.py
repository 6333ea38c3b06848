"""The student of published size, 8B parameters, on a TPU pod slice or a GPU node.

    python -m vqa_jax train --config ov_7b:authors --data CORPUS --workdir DIR \
        --config.train.init_from=STUDENT --config.train.mesh=1,-1,1

After the colon comes what is trained and how (method 6): `paper` (everything, at the paper's
rates), `authors` (their script: vision tower and projectors), `projectors`, `lora`, or `qlora`,
which is `lora` over a decoder kept in int8. The corpus is that of configs/paper.py. After a second
colon may come the iteration, as `paper:2`: then training sees all pairs so far once, 500,000,
600,000 or 700,000 of them. On more than 8 devices raise train.input.batch_size to a multiple of
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
    "qlora": {"llm/layers/lora_*": 1.0, **_PROJECTORS},
}
_BATCH = 8
# Pairs seen: as v5 of the paper says, in 25,000 steps; and of an iteration's pairs, each once.
_PAIRS = {"": 200_000, "1": 500_000, "2": 600_000, "3": 700_000}


def get_config(preset: str = "authors") -> ConfigDict:
    """One iteration at published size.

    Args:
      preset: "paper", "authors", "projectors", "lora" or "qlora"; with ":2" of that iteration.
    """
    preset, _, iteration = preset.partition(":")
    if preset not in _PRESETS:
        raise ValueError(f"preset {preset!r}: one of {sorted(_PRESETS)}")
    config = paper.get_config(iteration or "1")
    config.student = "ov_7b"
    config.severity_simulators = ()

    train = config.train
    train.severity_weight = 0.0
    train.mesh = (1, -1, 1)
    train.trainable = _PRESETS[preset]
    is_lora = preset in ("lora", "qlora")
    train.lora_rank = 64 if is_lora else 0
    train.lora_base = "int8" if preset == "qlora" else ""
    train.remat = "full"
    train.checkpoint_every = 500
    train.heldout_pairs = 256
    train.input.batch_size = _BATCH
    train.input.num_frames = 10
    train.input.answer = "sentence"
    train.optim.total_steps = _PAIRS[iteration] // _BATCH
    train.optim.warmup_steps = round(0.03 * train.optim.total_steps)
    train.optim.b2 = 0.999
    train.optim.peak_lr = 1e-4 if preset == "paper" or is_lora else 1e-5
    train.optim.weight_decay = 0.05 if preset == "paper" else 0.0
    return config
