"""Qwen3-8B behind SigLIP2-so400m, 8.6B parameters: a GPU node or a TPU pod slice.

    python -m vqa_jax train --config qwen3_siglip2_8b:projectors --data CORPUS --workdir DIR \
        --config.train.init_from=STUDENT

What comes after the colon, and the corpus, are those of configs/ov_7b.py. STUDENT is made by
`convert` of the two, as vqa_jax/exchange/README.md shows: its projectors are fresh.
"""

from ml_collections import ConfigDict

from configs import ov_7b


def get_config(preset: str = "projectors") -> ConfigDict:
    """Stage 1 with these parts; arguments as for configs/ov_7b.py."""
    config = ov_7b.get_config(preset)
    config.student = "qwen3_siglip2_8b"
    return config
