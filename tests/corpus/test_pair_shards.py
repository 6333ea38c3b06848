"""Pairs as records."""

import dataclasses

import numpy as np

from vqa_jax.corpus import pair_shards, schemas
from vqa_jax.pairs.levels import LEVELS
from vqa_jax.pairs.table import Pair


def test_pair_records_are_written_as_the_schema_says():
    """The quick encoder gives the bytes of TFDS's own."""
    probs = (0.1, 0.2, 0.3, 0.25, 0.15)
    known = Pair("clip ü", "b", "better", "student", 1.1, -0.3, 0.1, 0.8, 1e-9, probs, 0.7)
    for pair in (known, dataclasses.replace(known, level_probs=None, label="inferior", margin=-3)):
        example = {**dataclasses.asdict(pair), "iteration": 3}
        example["pair_id"] = f"clip ü|b|{pair.label_source}"
        one_hot = np.array([x == pair.label for x in LEVELS], np.float32)
        example["level_probs"] = one_hot if pair.level_probs is None else np.float32(probs)
        assert set(example) == set(schemas.FEATURES["vqa_pairs"])
        assert pair_shards.serialize(pair, 3) == schemas.serialize("vqa_pairs", example)
