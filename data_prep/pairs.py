"""Labels the first iteration's pairs: by the simulators' order and by the teachers' votes.

    python -m data_prep.pairs --config configs/quickstart.py --data DIR [--scores scores.csv]

Reads the video table that `data_prep.build` wrote and writes the dataset `vqa_pairs_1`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from data_prep.build import MANIFEST, VIDEO_TABLE
from vqa_jax import pair_shards, records, votes
from vqa_jax import pairs as pairs_lib
from vqa_jax import teachers as teachers_lib


@dataclasses.dataclass(frozen=True)
class PairConfig:
    """How many pairs are drawn and how the teachers vote.

    Attributes:
      seed: of the draws.
      simulator_per_label: training pairs of each of the four simulator labels.
      teachers_per_label: training pairs of each of the five labels by teachers.
      unite: "rank" or "logistic": how the teachers' scales become one.
      std_floor: lowest s_D in united score units (0..100); see METHOD 3.1.
      num_shards: pair shards of a split.
    """

    seed: int
    simulator_per_label: int
    teachers_per_label: int
    unite: str
    std_floor: float
    num_shards: int


def label_pairs(data: str, config: PairConfig, scores_csv: str | None = None) -> dict[str, Any]:
    """Draws, labels and writes iteration 1's pairs; returns their manifest."""
    corpus = records.read_json(os.path.join(data, MANIFEST))
    identity = {
        "corpus": corpus["video_table_sha256"],
        "settings": dataclasses.asdict(config),
        "scores": records.file_sha256(scores_csv) if scores_csv else "",
    }
    done = pair_shards.finished(data, 1, identity)
    if done is not None:
        logging.info("pairs of iteration 1 are complete")
        return done
    table = records.read_json(os.path.join(data, VIDEO_TABLE))
    imported = teachers_lib.read_scores_csv(scores_csv) if scores_csv else {}
    usable = [r for r in table if r["split"] == "train" and r["effective"]]
    united, _ = votes.united_votes(usable, imported, config.unite)
    train = pairs_lib.sample_simulator_pairs(
        pair_shards.simulated_sets(table, "train"), config.simulator_per_label, config.seed
    )
    train += pairs_lib.sample_teacher_pairs(
        united,
        [r["video_id"] for r in usable],
        config.teachers_per_label,
        config.seed,
        config.std_floor,
        min_teachers=min(2, united.shape[1]),
    )
    heldout = pairs_lib.all_simulator_pairs(
        pair_shards.simulated_sets(table, "heldout"), config.seed
    )
    return pair_shards.write(
        data, 1, {"train": train, "heldout": heldout}, config.num_shards, identity
    )


_CONFIG = config_flags.DEFINE_config_file("config", None, "Run configuration.")
_DATA = flags.DEFINE_string("data", None, "Corpus folder.")
_SCORES = flags.DEFINE_string("scores", None, "CSV of further teachers' scores.")


def main(argv: Sequence[str]) -> None:
    """Command line."""
    del argv
    config = PairConfig(**_CONFIG.value.pairs.to_dict())
    manifest = label_pairs(_DATA.value, config, _SCORES.value)
    logging.info("pairs %s, labels %s", manifest["counts"], manifest["labels"])


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "data"])
    app.run(main)
