"""The small student: a pretrained tower, frozen, and a decoder that learns on its tokens.

python -m data_prep build --config small --videos DIR --data DIR
python -m vqa_jax motion --data DIR
python -m vqa_jax tokens --config small --data DIR
python -m data_prep pairs --config small --data DIR
python -m vqa_jax train --config small --data DIR --workdir DIR
"""

from ml_collections import ConfigDict

from configs import base
from data_prep.simulators import SIMULATORS, expand

VIEW = {
    "view": "fit",
    "image_size": 512,
    "tile_size": 0,
    "num_tiles": 0,
    "max_key_frames": 8,
    "motion_size": 56,
    "clip_len": 32,
    "min_clips": 1,
    "max_clips": 2,
}


_SIMULATORS = expand(
    (
        *("resize", "gaussian_blur", "gaussian_noise", "darken", "brighten"),
        *("jitter", "stutter", "h264", "h265", "frame_drop"),
        *("optics", "sensor", "processing", "coding", "transmission"),
    )
)
_OVER_TIME = ("temporal", "transmission")  # kinds that a single frame does not show


def get_config() -> ConfigDict:
    """Photographs and clips in one viewing size; one simulator a still, four a clip."""
    config = base.get_config()
    config.student = "small"
    config.severity_simulators = tuple(
        name for name in _SIMULATORS if SIMULATORS[name].kind not in _OVER_TIME
    )
    prep = config.prep
    prep.preprocess.update(VIEW)
    prep.stills = True
    prep.standing_stills = 0.5  # or what stands still in a video would be a flaw
    prep.window = (0, 0)
    prep.segments_per_source = 4  # of a clip; a still has one
    prep.simulators = _SIMULATORS
    prep.simulators_per_segment = 1
    prep.h265_preset = "medium"
    prep.heldout_fraction = 0.0  # what is held out are folds, see the card
    prep.num_buckets = 32
    prep.deduplicate = "exact"  # clips are near copies of their stills
    prep.teachers = ()
    config.pairs.simulator_per_label = 16_000
    config.pairs.teachers_per_label = 24_000
    config.pairs.across = 8_000
    config.pairs.teachers_on_sources = 40_000
    config.pairs.teachers_order = 0.7
    config.pairs.std_floor = 6.0
    train = config.train
    train.input.batch_size = 64
    train.input.num_frames = 1
    train.input.soft_votes = True
    train.input.mix = {
        "image:teachers": 0.15,
        "image:teachers:sources": 0.4,
        "image": 0.15,
        "image:simulator:across": 0.05,
        # What teachers have upside down, or what is learnt last.
        "image:simulator:nearest": 0.02,
        "image:simulator:darken": 0.03,
        "image:simulator:brighten": 0.03,
        "image:simulator:oversharpen": 0.025,
        "image:simulator:jpeg": 0.02,
        "image:simulator:local_defocus": 0.02,
        "teachers": 0.04,
        "teachers:sources": 0.1,
        "simulator": 0.07,
        "simulator:freeze": 0.015,
        "simulator:frame_drop": 0.01,
        "simulator:stutter": 0.01,
    }
    train.severity_weight = 0.3
    train.token_dropout = 0.3
    train.optim.total_steps = 4800
    train.optim.weight_decay = 0.5  # 2,100 contents must not be learnt by heart
    train.optim.warmup_steps = 100
    train.optim.peak_lr = 1e-3
    parts = ("vision_projector/*", "motion_projector/*", "newline", "llm/*", "severity_*")
    train.trainable = dict.fromkeys(parts, 1.0)
    return config
