"""The tiny student on a folder of your own, for some hours on a CPU or less on a GPU.

    python -m data_prep build --config tiny --videos DIR --data DIR
    python -m vqa_jax motion --data DIR
    python -m data_prep pairs --config tiny --data DIR [--scores scores.csv]
    python -m vqa_jax train --config tiny --data DIR --workdir DIR

A first try of minutes: add --config.train.optim.total_steps=50 and
--config.train.optim.warmup_steps=5 to the last command. After the colon comes the iteration, as for
configs/quickstart.py.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(iteration: str = "1") -> ConfigDict:
    """Every simulator on every segment, the method's x265 preset, a long schedule.

    Args:
      iteration: "1", "2", ...: pairs of all iterations up to this one are trained on.
    """
    config = base.get_config()
    number = int(iteration)

    prep = config.prep
    prep.segments_per_source = 4
    prep.num_buckets = 64

    config.pairs.simulator_per_label = 40_000
    config.pairs.teachers_per_label = 4_000

    train = config.train
    train.pair_datasets = tuple(f"vqa_pairs_{i}" for i in range(1, number + 1))
    train.input.seed = number
    train.checkpoint_every = 250
    train.optim.total_steps = 8000 if number == 1 else 2000
    train.optim.warmup_steps = 240 if number == 1 else 60
    return config
