"""Fine-tuning a student on human scores: the corpus is that of test sets, without simulators.

    python -m data_prep human-listing --config finetune --videos DIR --out sets \
        --mos KoNViD-1k=FILE
    python -m data_prep build --config finetune --videos sets/listing.csv --data corpus
    python -m vqa_jax motion --data corpus
    python -m data_prep human-pairs --config finetune --data corpus --mos sets/labels
    python -m vqa_jax train --config finetune --data corpus --workdir DIR \
        --config.train.init_from=STUDENT

After the colon comes the student: `tiny`, or `ov_7b` with whole frames.
"""

from ml_collections import ConfigDict

from configs import base, paper


def get_config(student: str = "tiny") -> ConfigDict:
    """Every video once, ten seconds of it, in full or in a large window.

    Args:
      student: "tiny" or "ov_7b".
    """
    if student not in ("tiny", "ov_7b"):
        raise ValueError(f"student {student!r}: tiny or ov_7b")
    config = base.get_config() if student == "tiny" else paper.get_config()
    config.student = student
    config.severity_simulators = ()

    prep = config.prep
    prep.segments_per_source = 1
    prep.heldout_segments = 1
    prep.segment_seconds = 10.0
    prep.window = (960, 540) if student == "tiny" else (0, 0)
    prep.simulators = ()
    prep.pools = ()
    prep.teachers = ()
    prep.deduplicate = "exact"  # versions of one content are what these sets are made of

    train = config.train
    train.severity_weight = 0.0
    train.input.mix = {"human": 1.0}
    train.input.num_frames = 4 if student == "tiny" else 10
    train.optim.total_steps = 500
    train.optim.warmup_steps = 25
    train.optim.peak_lr = 2e-4 if student == "tiny" else 1e-5
    if student == "ov_7b":
        train.trainable = {"vision/*": 0.2, "vision_projector/*": 1.0, "motion_projector/*": 1.0}
        train.mesh = (1, -1, 1)
        train.remat = "full"
        train.input.batch_size = 8
        train.input.answer = "sentence"
    return config
