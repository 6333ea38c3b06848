"""`ov_0_5b` as it is, but for amounts: two frames of a few clips, steps of one pair."""

from ml_collections import ConfigDict

from configs import ov_0_5b


def get_config(preset: str = "authors") -> ConfigDict:
    """As configs/ov_0_5b.py."""
    config = ov_0_5b.get_config(preset)
    prep = config.prep
    prep.preprocess.max_key_frames = 2
    prep.segment_seconds = 2.0
    prep.pools = ()
    prep.simulators = ("h264",)  # four levels, of which anchors are made
    prep.num_buckets = 2
    with config.ignore_type():
        config.pairs.simulator_per_label = 2
        config.pairs.teachers_per_label = 1
    config.pairs.num_shards = 1
    relabel = config.relabel
    relabel.misordered_pools = ()
    relabel.misordered_quota = relabel.gmad_quota = relabel.num_shards = 4
    train = config.train
    train.checkpoint_every = train.log_every = train.heldout_pairs = 1
    train.input.batch_size = 1
    train.input.num_frames = 2
    train.optim.total_steps, train.optim.warmup_steps = 1, 0
    return config
