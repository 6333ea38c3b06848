"""The paper's table in miniature: a row is a small student's run with one thing changed.

    bash launch/ablation.sh --photographs DIR --scores FILE --data CORPUS --out DIR

After the colon comes the row, one of ROWS, or `without_` and a kind of simulators. Rows I to V are
the paper's; the others are controls.
"""

from ml_collections import ConfigDict

from configs import small
from data_prep.simulators import KINDS, SIMULATORS

# One simulator a kind that no row trains on, so that every row is asked about unknown flaws.
UNSEEN = (
    *("brighten", "jitter", "h265", "motion_blur", "denoise", "bilinear", "mpeg2", "burst_drop"),
)
PAPER = ("I", "II", "III", "IV", "V")
CONTROLS = ("random", "same_steps", "permuted", "one_teacher", "no_pretraining", "native")
LEFT_OUT = tuple(f"without_{kind}" for kind in KINDS if kind != "mixed")
ROWS = (*PAPER, *CONTROLS, *LEFT_OUT)

_ITERATION = {"IV": 2, "random": 2, "same_steps": 1, "V": 3}  # those that go on from another row
_SOURCES = {"image:teachers:sources": 0.8, "teachers:sources": 0.2}


def get_config(row: str = "III") -> ConfigDict:
    """One row; what a script does for it besides (other pairs, another tower) stands there.

    Raises:
      ValueError: no such row.
    """
    if row not in ROWS:
        raise ValueError(f"no row {row!r}: one of {', '.join(ROWS)}")
    config = small.get_config()
    # About half of the simulator pairs: among the others the iterations find hard ones.
    config.pairs.simulator_per_label = 1_500
    config.pairs.permuted = row == "permuted"
    config.relabel.pool_segments = 600
    config.relabel.misordered_quota = 3_000
    config.relabel.gmad_quota = 3_000
    config.relabel.choice = "random" if row == "random" else "hard"
    train = config.train
    train.loss.confidence = row not in ("I", "II")
    if row == "I":
        train.input.mix = _SOURCES
    if row in ("I", "permuted"):
        train.severity_weight = 0.0  # which would tell the simulators' order
        parts = [name for name in train.trainable if name != "severity_*"]
        train.trainable = dict.fromkeys(parts, 1.0)
    if row in _ITERATION:
        number = _ITERATION[row]
        train.pair_datasets = tuple(f"vqa_pairs_{i}" for i in range(1, number + 1))
        train.input.mix = {**train.input.mix, "image:student": 0.2, "student": 0.05}
        train.optim.total_steps //= 2
        train.optim.warmup_steps //= 2
        train.optim.peak_lr /= 2
    if row == "native":
        view = {"view": "crops", "tile_size": small.VIEW["image_size"], "num_tiles": 6}
        config.prep.preprocess.update(view)
    return config


def simulators_of(row: str) -> tuple[str, ...]:
    """Simulators that a row `without_` a kind leaves out."""
    kind = row.removeprefix("without_")
    return tuple(name for name, simulator in SIMULATORS.items() if simulator.kind == kind)
