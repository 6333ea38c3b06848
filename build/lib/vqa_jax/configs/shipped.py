"""The shipped tiny student: the quickstart's steps, on more scenes and for longer.

python -m data_prep scenes --out scenes --num 240 --seed 1 --photos PHOTOS
python -m data_prep build --config shipped --videos scenes --data corpus
python -m vqa_jax motion --data corpus
python -m data_prep pairs --config shipped --data corpus
python -m vqa_jax train --config shipped --data corpus --workdir first
python -m vqa_jax train --config shipped:2 --data corpus --workdir second \
    --config.train.init_from=first/student
python -m vqa_jax train --config shipped:3 --data corpus --workdir third \
    --config.train.init_from=second/student

The later stages show more of the simulators that the ones before leave weak.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(stage: str = "1") -> ConfigDict:
    """Three segments of every scene, three simulators each; `stage` is "1", "2" or "3"."""
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
    if stage == "2":
        config.train.optim.total_steps = 1200
        config.train.optim.warmup_steps = 40
        config.train.optim.peak_lr = 1.2e-3
        config.train.input.seed = 3
        config.train.input.mix = {
            "simulator": 0.3,
            "simulator:brighten": 0.2,
            "simulator:darken": 0.15,
            "simulator:h264": 0.12,
            "simulator:stutter": 0.15,
            "teachers": 0.08,
        }
    if stage == "3":
        config.train.optim.total_steps = 500
        config.train.optim.warmup_steps = 25
        config.train.optim.peak_lr = 7e-4
        config.train.input.seed = 4
        config.train.input.mix = {
            "simulator": 0.25,
            "simulator:brighten": 0.14,
            "simulator:darken": 0.14,
            "simulator:h264": 0.22,
            "simulator:h265": 0.22,
            "teachers": 0.03,
        }
    return config
