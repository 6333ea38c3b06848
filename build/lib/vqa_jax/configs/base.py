"""Every setting of every stage, with the defaults of the tiny student.

A run's file calls `get_config()` here and changes fields; assigning a field that does not exist is
an error (ml_collections locks the config), as is a stage given a field that it does not know. The
defaults, and what each field means, stand in the dataclasses.
"""

import dataclasses

from ml_collections import ConfigDict

from data_prep.prepare.config import HumanConfig, PairConfig, PrepConfig
from vqa_jax.settings import RelabelConfig, RunConfig, TrainConfig


def get_config() -> ConfigDict:
    """The base configuration."""
    fields = dataclasses.asdict(RunConfig())
    fields["prep"] = PrepConfig().to_dict()
    fields["pairs"] = dataclasses.asdict(PairConfig())
    fields["human"] = dataclasses.asdict(HumanConfig())
    fields["relabel"] = dataclasses.asdict(RelabelConfig())
    fields["train"] = TrainConfig().to_dict()
    return ConfigDict(fields).lock()
