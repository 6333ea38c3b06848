"""The small student: a pretrained tower, frozen, and a decoder that learns on its tokens.

python -m data_prep build --config small --videos DIR --data DIR
python -m vqa_jax motion --data DIR
python -m vqa_jax tokens --config small --data DIR
python -m data_prep pairs --config small --data DIR
python -m vqa_jax train --config small --data DIR --workdir DIR
"""

from ml_collections import ConfigDict

from configs import base

VIEW = {
    "view": "fit",
    "image_size": 384,
    "tile_size": 0,
    "num_tiles": 0,
    "max_key_frames": 8,
    "motion_size": 56,
    "clip_len": 32,
    "min_clips": 1,
    "max_clips": 2,
}


SIMULATORS = (
    *("resize", "gaussian_blur", "gaussian_noise", "darken", "brighten"),
    *("jitter", "stutter", "h264", "h265", "frame_drop"),
    *("optics", "sensor", "processing", "coding", "transmission"),
)


def get_config() -> ConfigDict:
    """Photographs and clips in one viewing size; two simulators a source."""
    config = base.get_config()
    config.student = "small"
    prep = config.prep
    prep.preprocess.update(VIEW)
    prep.stills = True
    prep.window = (0, 0)
    prep.segments_per_source = 4  # of a clip; a still has one
    prep.simulators = SIMULATORS
    prep.simulators_per_segment = 1
    prep.h265_preset = "medium"
    prep.heldout_fraction = 0.0  # what is held out are folds, see the card
    prep.num_buckets = 32
    prep.deduplicate = "exact"  # clips are near copies of their stills
    prep.teachers = ()
    train = config.train
    train.input.batch_size = 64
    train.input.num_frames = 8
    train.input.buckets = ((1, 1),)  # stills, which are most
    train.input.mix = {"image:teachers": 0.6, "image": 0.2, "teachers": 0.1, "simulator": 0.1}
    train.severity_weight = 0.3
    train.optim.total_steps = 1500
    train.optim.warmup_steps = 75
    train.optim.peak_lr = 1e-3
    parts = ("vision_projector/*", "motion_projector/*", "newline", "llm/*", "severity_*")
    train.trainable = dict.fromkeys(parts, 1.0)
    return config
