"""The small student of published family, 0.9B parameters: one GPU or a few TPU chips.

    python -m vqa_jax train --config ov_0_5b:authors --data CORPUS --workdir DIR \
        --config.train.init_from=STUDENT

What comes after the colon, and the corpus, are those of configs/ov_7b.py.
"""

from ml_collections import ConfigDict

from configs import ov_7b


def get_config(preset: str = "authors") -> ConfigDict:
    """Stage 1 with the 0.5B decoder; arguments as for configs/ov_7b.py."""
    config = ov_7b.get_config(preset)
    config.student = "ov_0_5b"
    return config
