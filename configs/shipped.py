"""The shipped tiny student: the quickstart's steps, on more scenes and for longer.

python -m data_prep.scenes --out scenes --num 240 --seed 1 --photos PHOTOS
python -m data_prep.build --config configs/shipped.py --videos scenes --data corpus
python -m vqa_jax motion --data corpus
python -m data_prep.pairs --config configs/shipped.py --data corpus
python -m vqa_jax train --config configs/shipped.py --data corpus --workdir student
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """Three segments of every scene, three simulators each."""
    config = base.get_config()
    config.prep.segments_per_source = 3
    config.prep.simulators_per_segment = 3
    config.prep.h265_preset = "medium"
    config.prep.num_buckets = 64
    config.pairs.simulator_per_label = 20_000
    config.pairs.teachers_per_label = 2_000
    config.train.input.batch_size = 64
    config.train.input.num_frames = 2
    config.train.optim.total_steps = 1550
    config.train.optim.warmup_steps = 75
    config.train.optim.peak_lr = 1.5e-3
    config.train.severity_weight = 0.5
    return config
