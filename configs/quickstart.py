"""The quickstart's two iterations of a small student: 8 CPU minutes.

    bash launch/quickstart.sh

or step by step, as in launch/README.md. After the colon comes the iteration:

    python -m vqa_jax train --config quickstart:2 --data DIR --workdir DIR \
        --config.train.init_from=STUDENT_OF_ITERATION_1
"""

from ml_collections import ConfigDict

from configs import base, small


def get_config(iteration: str = "1") -> ConfigDict:
    """Many short segments a source, few simulators each; later iterations start warm.

    Args:
      iteration: "1", "2", ...: pairs of all iterations up to this one are trained on.
    """
    config, defaults = small.get_config(), base.get_config()
    number = int(iteration)

    config.severity_simulators = defaults.severity_simulators
    prep = config.prep
    prep.stills = False
    prep.standing_stills = defaults.prep.standing_stills
    prep.simulators = defaults.prep.simulators
    prep.heldout_fraction = defaults.prep.heldout_fraction
    prep.deduplicate = defaults.prep.deduplicate
    prep.segments_per_source = 2
    prep.simulators_per_segment = 2
    prep.h265_preset = "faster"

    # About half of the simulator pairs: the others are there for relabeling to find hard ones in.
    config.pairs.simulator_per_label = 1000
    config.pairs.teachers_per_label = 1000
    config.pairs.teachers_on_sources = 300
    config.pairs.across = 300
    config.relabel.pool_segments = 60

    train = config.train
    train.pair_datasets = tuple(f"vqa_pairs_{i}" for i in range(1, number + 1))
    train.severity_weight = 0.5
    train.token_dropout = 0.1
    train.input.mix = {"simulator": 0.7, "teachers": 0.2, "student": 0.1}
    train.input.seed = number  # another order than the iteration before
    train.optim.total_steps = 400
    if number > 1:
        train.optim.total_steps = 200
        train.optim.peak_lr = 5e-4
    return config
