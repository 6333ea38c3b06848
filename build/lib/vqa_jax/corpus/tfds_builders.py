"""TFDS builders of a corpus's datasets, for those who know TFDS and not this package.

    import tensorflow_datasets as tfds
    import vqa_jax.corpus.tfds_builders  # registers the builders

    videos = tfds.data_source("vqa_videos", split="train", data_dir=CORPUS)
    pairs = tfds.data_source("vqa_pairs/iteration_1", split="train", data_dir=CORPUS)

Without this package, `tfds.builder_from_directory(CORPUS + "/vqa_pairs_1/1.0.0")` reads the same.
The builders only read: `data_prep` writes the shards (`corpus.shards`). TensorFlow is not needed.
"""

from __future__ import annotations

import os
import re
from typing import Any

import tensorflow_datasets as tfds

from vqa_jax.corpus import schemas, shards
from vqa_jax.jobs.files import CorpusError

MAX_ITERATIONS = 9  # configs of `vqa_pairs` that have a name
_CONFIG = re.compile(r"iteration_(\d+)")


class _CorpusBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Common to the datasets of a corpus: they are read, never generated."""

    VERSION = tfds.core.Version(schemas.VERSION)
    RELEASE_NOTES = {schemas.VERSION: "First."}  # noqa: RUF012 - as TFDS declares it

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=schemas.DESCRIPTIONS[self.name],
            features=schemas.FEATURES[self.name],
            citation=schemas.CITATION,
            homepage=schemas.HOMEPAGE,
        )

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Nothing to do for a finished dataset.

        Raises:
          CorpusError: there is none in the folder.
        """
        del kwargs
        if not (self.data_path / "dataset_info.json").exists():
            raise CorpusError(
                f"{self.data_path} holds no finished dataset, and this builder only reads: name a"
                " corpus folder as data_dir, or make one with `python -m data_prep build`"
            )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        raise NotImplementedError("this builder only reads")

    def _generate_examples(self):
        raise NotImplementedError("this builder only reads")


class VqaVideos(_CorpusBuilder):
    """Frames of video segments, undistorted and simulated."""


class VqaPairs(_CorpusBuilder):
    """Ordered pairs of `vqa_videos` with the level of the second; one config an iteration."""

    BUILDER_CONFIGS = [  # noqa: RUF012 - as TFDS declares it
        tfds.core.BuilderConfig(
            name=f"iteration_{number}", description=f"Pairs found in iteration {number}."
        )
        for number in range(1, MAX_ITERATIONS + 1)
    ]

    def _build_data_dir(self, given_data_dir: str | None) -> tuple[str, str]:
        # An iteration is a dataset of its own on disk, named vqa_pairs_N, so that any reader of
        # directories finds it too; TFDS would look for vqa_pairs/iteration_N.
        root, _ = super()._build_data_dir(given_data_dir)
        number = _CONFIG.fullmatch(self.builder_config.name).group(1)
        return root, os.fspath(shards.builder_dir(root, f"{self.name}_{number}"))
