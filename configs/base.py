"""Every setting of every stage, with the defaults of the tiny student.

A run's file calls `get_config()` here and changes fields; assigning a field that does not exist is
an error (ml_collections locks the config), as is a stage given a field that it does not know.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The base configuration."""
    config = ConfigDict()
    config.seed = 0
    config.student = "tiny"  # a preset of vqa_jax.models

    prep = config.prep = ConfigDict()
    prep.seed = 0
    prep.heldout_fraction = 0.2
    prep.segments_per_source = 2
    prep.segment_seconds = 1.0
    prep.window = (384, 288)
    prep.simulators = (
        "resize",
        "gaussian_blur",
        "gaussian_noise",
        "darken",
        "brighten",
        "jitter",
        "stutter",
        "h264",
        "h265",
    )
    prep.simulators_per_segment = 0
    prep.h265_preset = "veryslow"
    prep.teachers = (
        "niqe",
        "brisque_distance",
        "sharpness",
        "blockiness",
        "noise",
        "exposure",
        "temporal_smoothness",
    )
    prep.num_buckets = 16
    prep.preprocess = ConfigDict(
        {
            "view": "crops",
            "image_size": 64,
            "tile_size": 80,
            "num_tiles": 16,
            "max_key_frames": 8,
            "motion_size": 64,
            "clip_len": 32,
            "min_clips": 1,
            "max_clips": 2,
        }
    )
    return config
