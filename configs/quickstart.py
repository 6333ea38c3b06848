"""The quickstart's two iterations, sized for half an hour on two cores.

    bash launch/quickstart.sh

or step by step, as in launch/README.md. After the colon comes the iteration:

    python -m vqa_jax train --config quickstart:2 --data DIR --workdir DIR \
        --config.train.init_from=STUDENT_OF_ITERATION_1
"""

from ml_collections import ConfigDict

from configs import base


def get_config(iteration: str = "1") -> ConfigDict:
    """Many short segments a source, few simulators each; later iterations start warm.

    Args:
      iteration: "1", "2", ...: pairs of all iterations up to this one are trained on.
    """
    config = base.get_config()
    number = int(iteration)

    prep = config.prep
    prep.segments_per_source = 5
    prep.heldout_segments = 1
    prep.simulators_per_segment = 3
    prep.window = (256, 192)
    prep.h265_preset = "faster"

    # About half of the simulator pairs: the others are there for relabeling to find hard ones in.
    config.pairs.simulator_per_label = 1000
    config.relabel.pool_segments = 60

    train = config.train
    train.pair_datasets = tuple(f"vqa_pairs_{i}" for i in range(1, number + 1))
    train.severity_weight = 0.5
    train.input.num_frames = 2
    train.input.seed = number  # another order and other crops than the iteration before
    train.optim.total_steps = 600
    if number > 1:
        train.optim.total_steps = 250
        train.optim.peak_lr = 5e-4
    return config
