"""Labels the first iteration's pairs: by the simulators' order and by the teachers' votes.

    python -m data_prep.pairs --config configs/quickstart.py --data DIR [--scores scores.csv]

Reads the video table that `data_prep.build` wrote and writes the dataset `vqa_pairs_1`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from vqa_jax import pair_shards, records, votes
from vqa_jax import pairs as pairs_lib
from vqa_jax import teachers as teachers_lib
from vqa_jax.records import MANIFEST, VIDEO_TABLE


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
    """Draws, labels and writes iteration 1's pairs; returns their manifest.

    Args:
      data: corpus folder that `data_prep.build` has finished.
      config: see PairConfig.
      scores_csv: scores of further teachers, see `teachers.read_scores_csv`.

    Raises:
      records.CorpusError: the corpus is unfinished or damaged, or no training pair can be drawn.
      teachers.ScoresError: the CSV cannot be read, or a teacher in it scores none of the videos.
    """
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
    table_path = os.path.join(data, VIDEO_TABLE)
    if records.file_sha256(table_path) != corpus["video_table_sha256"]:
        raise records.CorpusError(f"{table_path} was changed: delete {data} and prepare it anew")
    table = records.read_json(table_path)
    imported = teachers_lib.read_scores_csv(scores_csv) if scores_csv else {}
    usable = [r for r in table if r["split"] == "train" and r["effective"]]
    if not usable:
        raise records.CorpusError(
            f"{data} has no training video: add inputs, or see quarantine.csv"
        )
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
    if not train:
        raise records.CorpusError(
            f"{data}: no training pair can be drawn: ask for more per label, or add inputs"
        )
    heldout = pairs_lib.all_simulator_pairs(
        pair_shards.simulated_sets(table, "heldout"), config.seed
    )
    return pair_shards.write(
        data, 1, {"train": train, "heldout": heldout}, config.num_shards, identity
    )


def main(argv: Sequence[str]) -> None:
    """Command line."""
    del argv
    args = flags.FLAGS
    config = PairConfig(**args.config.pairs.to_dict())
    try:
        manifest = label_pairs(args.data, config, args.scores)
    except (records.CorpusError, teachers_lib.ScoresError, FileNotFoundError) as error:
        sys.exit(f"data_prep.pairs: {error}")
    logging.info("pairs %s, labels %s", manifest["counts"], manifest["labels"])


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Run configuration.")
    flags.DEFINE_string("data", None, "Corpus folder.")
    flags.DEFINE_string("scores", None, "CSV of further teachers' scores.")
    flags.mark_flags_as_required(["config", "data"])
    app.run(main)
