"""The paper's amounts (method 3.3): every simulator group has its own sources and its hard pairs.

    bash launch/prep.sh RUNNER --config paper:1 --videos LISTING --data CORPUS

After the colon comes the iteration. LISTING names the selected videos of that iteration: 280,000,
104,000 and 54,000 for training, and as many held-out ones on top as wanted.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import base
from vqa_jax.media.preprocess import Preprocess

# Sources of the spatial, temporal and streaming pools; all others are labelled by models alone.
_POOLS = {"1": (50_000, 20_000, 10_000), "2": (2_000, 1_000, 1_000), "3": (2_000, 1_000, 1_000)}
_GROUPS = (
    ("spatial", ("resize", "gaussian_blur", "gaussian_noise", "darken", "brighten")),
    ("temporal", ("jitter", "stutter")),
    ("streaming", ("h264", "h265")),
)


def get_config(iteration: str = "1") -> ConfigDict:
    """Whole frames of whole clips at 384x384, one simulator a source, motion clips of 224x224.

    Args:
      iteration: "1", "2" or "3".
    """
    if iteration not in _POOLS:
        raise ValueError(f"iteration {iteration}: the paper has {sorted(_POOLS)}")
    config = base.get_config()
    config.student = "ov_7b"
    # Iterations 2 and 3 add 5,000 misordered pairs of each group and 85,000 gMAD pairs.
    relabel = config.relabel
    relabel.misordered_pools = tuple(
        {"name": name, "simulators": simulators, "pairs": 5_000} for name, simulators in _GROUPS
    )
    relabel.gmad_quota = 85_000
    relabel.num_shards = 16
    prep = config.prep
    prep.heldout_fraction = 0.02
    prep.segments_per_source = 1
    prep.segment_seconds = 10.0
    prep.window = (0, 0)
    prep.simulators_per_segment = 1
    prep.num_buckets = 256
    prep.pools = tuple(
        {"name": name, "simulators": simulators, "sources": sources}
        for (name, simulators), sources in zip(_GROUPS, _POOLS[iteration], strict=True)
    )
    # The published view, which Preprocess has as its defaults.
    prep.preprocess = ConfigDict(dataclasses.asdict(Preprocess(max_key_frames=10)))
    return config
