"""How many pairs the loader delivers beside those that the student takes on the same machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from vqa_jax.cli import config as config_option
from vqa_jax.corpus.store import PairCorpus
from vqa_jax.devices import sharding
from vqa_jax.settings import TrainConfig
from vqa_jax.training import input_pipeline
from vqa_jax.training.batch import PromptGeometry
from vqa_jax.weights import bundle

_WARM = 10  # steps, and batches, before the clock starts: compilation, first reads


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", *words], check=True)


def _corpus(videos: str | None, folder: str, config: str, num: int) -> str:
    data = os.path.join(folder, "corpus")
    if videos is None:
        videos = os.path.join(folder, "scenes")
        _run("data_prep", "scenes", "--out", videos, "--num", str(num), "--seed", "0")
    _run("data_prep", "build", f"--config={config}", f"--videos={videos}", f"--data={data}")
    _run("vqa_jax", "motion", "--data", data)
    _run("data_prep", "pairs", f"--config={config}", f"--data={data}")
    return data


def measure(data: str | None, videos: str | None, num: int, config: str, steps: int) -> dict:
    """Trains for `steps` steps, then reads as many batches without a step.

    Args:
      data: prepared corpus; None: one is made.
      videos: folder of videos to make it of; None: `num` scenes are made.
      num: scenes.
      config: settings of preparation and training, a name or file.
      steps: steps, of which the first are not counted.

    Returns:
      {"machine", "pairs" (of the corpus), "batch", "steps", "student_pairs_per_sec",
      "input_wait" (share of the steps' time), "loader_pairs_per_sec", "ratio"}.
    """
    with tempfile.TemporaryDirectory() as folder:
        data = data or _corpus(videos, folder, config, num)
        workdir = os.path.join(folder, "run")
        settings = {"log_every": 1, "checkpoint_every": steps, "optim.total_steps": steps}
        changes = [f"--config.train.{name}={value}" for name, value in settings.items()]
        changes.append("--config.train.optim.warmup_steps=1")
        _run("vqa_jax", "train", "--config", config, "--data", data, "--workdir", workdir, *changes)
        with open(os.path.join(workdir, "metrics.jsonl"), encoding="utf-8") as f:
            rows = [json.loads(line) for line in f][_WARM:]
        waits = [row["perf/input_wait_frac"] for row in rows]
        seconds = [1 / row["perf/pairs_per_sec"] for row in rows]  # a row is a step
        spec = bundle.load_spec(os.path.join(workdir, "student"))
        train = TrainConfig.from_dict(config_option.read(config).train.to_dict())
        return {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "steps": steps - _WARM,
            "batch": train.input.batch_size,
            "student_pairs_per_sec": len(rows) / sum(seconds),
            "input_wait": float(np.average(waits, weights=seconds)),
            **_loader(data, train, spec, steps),
        }


def _loader(data: str, train: TrainConfig, spec: bundle.StudentSpec, steps: int) -> dict[str, Any]:
    geometry = PromptGeometry(
        bundle.make_tokenizer(spec), spec.student.tokens_per_frame, train.input.answer
    )
    corpus = PairCorpus(data, train.pair_datasets, "train", spec.extractor)
    batches = input_pipeline.training_batches(
        corpus, train.input, geometry, spec.severity_simulators, spec.preprocess.max_clips
    )
    mesh = sharding.make_mesh(train.mesh, context=train.context)
    found = input_pipeline.device_batches(batches, mesh)
    for _ in range(_WARM):
        next(found)
    start = time.perf_counter()
    for _ in range(steps - _WARM):
        next(found)
    seconds = time.perf_counter() - start
    found.close()
    return {
        "pairs": len(corpus.pairs),
        "loader_pairs_per_sec": (steps - _WARM) * train.input.batch_size / seconds,
    }


def table(found: dict[str, Any]) -> str:
    """The figures as text."""
    ratio = found["loader_pairs_per_sec"] / found["student_pairs_per_sec"]
    return (
        f"{found['machine']}; {found['pairs']} pairs, batches of {found['batch']}, "
        f"{found['steps']} steps\n"
        f"student {found['student_pairs_per_sec']:9.1f} pairs/s, "
        f"{100 * found['input_wait']:.2f}% of the time waiting for input\n"
        f"loader  {found['loader_pairs_per_sec']:9.1f} pairs/s alone: {ratio:.1f} times as many"
    )
