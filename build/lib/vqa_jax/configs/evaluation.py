"""An evaluation corpus: every source is held out, all simulators and levels at the paper's presets.

python -m data_prep build --config evaluation --videos DIR --data CORPUS
python -m vqa_jax motion --data CORPUS
python -m vqa_jax evaluate --student STUDENT --data CORPUS --out DIR
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """One segment of every source, x265 at its paper preset."""
    config = base.get_config()
    config.prep.heldout_fraction = 1.0
    return config
