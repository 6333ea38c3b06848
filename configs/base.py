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
    config.extractor = ""  # SlowFast safetensors; "" is the shipped tiny one

    prep = config.prep = ConfigDict()
    prep.seed = 0
    prep.heldout_fraction = 0.2
    prep.segments_per_source = 2
    prep.heldout_segments = 1
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
    prep.sources_per_bucket = 64
    prep.pools = ()
    prep.hdr = "tone_map"
    prep.stills = False
    prep.deduplicate = "near"
    prep.limit_seconds = 900.0
    prep.limit_pixels = 8192 * 4608
    prep.limit_memory_mb = 4096
    prep.preprocess = ConfigDict(
        {
            "view": "crops",
            "image_size": 64,
            "tile_size": 80,
            "num_tiles": 12,
            "max_key_frames": 8,
            "motion_size": 56,
            "clip_len": 32,
            "min_clips": 1,
            "max_clips": 2,
        }
    )

    pairs = config.pairs = ConfigDict()
    pairs.seed = 0
    pairs.simulator_per_label = 10_000
    pairs.teachers_per_label = 1_000
    pairs.unite = "rank"
    pairs.lower_is_better = ()
    pairs.std_floor = 3.0
    pairs.num_shards = 4

    human = config.human = ConfigDict()  # pairs by human scores, for fine-tuning
    human.seed = 0
    human.per_label = 2_000
    human.margin = 0.4
    human.ratings = 30
    human.num_shards = 4

    relabel = config.relabel = ConfigDict()
    relabel.seed = 0
    relabel.pool_segments = 0
    relabel.misordered_quota = 5_000
    relabel.gmad_quota = 2_000
    relabel.num_bins = 20
    relabel.max_per_video = 8
    relabel.unite = "rank"
    relabel.lower_is_better = ()
    relabel.misordered_pools = ()
    relabel.xi = 1.0
    relabel.labels = "student"
    relabel.std_floor = 3.0
    relabel.range_videos = 64
    relabel.num_shards = 4

    # Simulators that single frames show: the auxiliary loss asks for kind and level.
    config.severity_simulators = (
        "resize",
        "gaussian_blur",
        "gaussian_noise",
        "darken",
        "brighten",
        "h264",
        "h265",
    )

    train = config.train = ConfigDict()
    train.pair_datasets = ("vqa_pairs_1",)
    train.init_from = ""
    train.severity_weight = 0.3
    train.mesh = (-1, 1, 1)
    # Path patterns of what is trained and factors on peak_lr; everything else is frozen.
    train.trainable = {"*": 1.0}
    train.sharding = {}
    train.attention = "auto"
    train.remat = "none"
    train.lora_rank = 0
    train.log_every = 20
    train.checkpoint_every = 100
    train.keep_best = 0
    train.keep_every = 0
    train.seed = 0
    train.input = ConfigDict(
        {
            "batch_size": 32,
            "num_frames": 4,
            "swap": True,
            "same_crops": 0.5,
            "answer": "level",
            "mix": {"simulator": 0.9, "teachers": 0.1, "student": 0.1, "image": 0.1},
            "seed": 0,
            "buckets": (),
            "group_size": 1,
        }
    )
    train.optim = ConfigDict(
        {
            "total_steps": 500,
            "warmup_steps": 25,
            "peak_lr": 1e-3,
            "weight_decay": 0.05,
            "grad_clip": 1.0,
            "b2": 0.98,
        }
    )
    train.loss = ConfigDict(
        {
            "confidence": True,
            "warmup_share": 0.1,
            "start_temperature": 0.5,
            "end_temperature": 0.1,
        }
    )
    return config.lock()
