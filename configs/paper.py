"""The paper's amounts (method 3.3): every simulator group has its own sources and its hard pairs.

    bash launch/stage.sh 1 --config ov_7b:paper:% --listing LISTING --data CORPUS --out DIR

After the colon comes the iteration. LISTING names the selected videos: 280,000 for training, and as
many held-out ones on top as wanted. One corpus serves all iterations: later ones look for hard
pairs in as many of its segments as the paper has videos then.

`--config.prep.teacher_views="('fast_vqa','dover')"` keeps what these look at in every version, so
that they vote on versions too (beyond the paper): `vqa_jax teachers score --data CORPUS`. For
launch/stage.sh a file of your own sets it:

    from configs import paper

    def get_config(iteration="1"):
        config = paper.get_config(iteration)
        config.prep.teacher_views = ("fast_vqa", "dover")
        return config
"""

import dataclasses

from ml_collections import ConfigDict

from configs import base
from vqa_jax.media.preprocess import Preprocess

# Segments that are looked at for hard pairs: all in iteration 1, which has no such pairs.
_LOOKED_AT = {"1": 0, "2": 104_000, "3": 54_000}
# Kind of simulators -> (simulators, sources with them, pairs of them); all other sources are
# labelled by models alone.
_GROUPS = {
    "spatial": (
        ("resize", "gaussian_blur", "gaussian_noise", "darken", "brighten"),
        *(50_000, 160_000),
    ),
    "temporal": (("jitter", "stutter"), 20_000, 40_000),
    "streaming": (("h264", "h265"), 10_000, 50_000),
}
_BY_MODELS = 250_000  # pairs


def get_config(iteration: str = "1") -> ConfigDict:
    """Whole frames of whole clips at 384x384, one simulator a source, motion clips of 224x224.

    Args:
      iteration: "1", "2" or "3".
    """
    if iteration not in _LOOKED_AT:
        raise ValueError(f"iteration {iteration}: the paper has {sorted(_LOOKED_AT)}")
    config = base.get_config()
    config.student = "ov_7b"
    with config.ignore_type():  # base has one number for all labels
        config.pairs.simulator_per_label = {
            name: {"total": pairs} for name, (_, _, pairs) in _GROUPS.items()
        }
        config.pairs.teachers_per_label = {"total": _BY_MODELS}
    config.pairs.num_shards = 16
    # Iterations 2 and 3 add 5,000 misordered pairs of each group and 85,000 gMAD pairs.
    relabel = config.relabel
    relabel.pool_segments = _LOOKED_AT[iteration]
    relabel.misordered_pools = tuple(
        {"name": name, "simulators": simulators, "pairs": 5_000}
        for name, (simulators, _, _) in _GROUPS.items()
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
        for name, (simulators, sources, _) in _GROUPS.items()
    )
    # The published view, which Preprocess has as its defaults.
    prep.preprocess = ConfigDict(dataclasses.asdict(Preprocess(max_key_frames=10)))
    return config
