"""Pretrains the small motion extractor on synthetic clips (`vqa_jax.motion.synthesis`).

    python -m vqa_jax.motion.pretrain --out FILE.safetensors --photos DIR

The shipped file's card, `assets/motion_tiny.json`, holds the options that it was made with. Linear
heads regress the severity of every distortion and are thrown away. As in multigrid training (Wu et
al. 2020) most steps see short and small crops of clips; the last ones see whole clips, which also
brings the frozen BatchNorm statistics to their final geometry. A step's batch is a function of seed
and step alone, so an interrupted run continues where it saved.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from vqa_jax.devices import programs
from vqa_jax.jobs import workers
from vqa_jax.jobs.files import commit, share
from vqa_jax.motion import network, synthesis, weights

_WEIGHTS = np.array([1, 2, 0.2, 0.2, 0.2, 0.2, 0.2], np.float32)  # of the squared errors
_HELDOUT_SEED = 1 << 20  # far from any step number
_LOG_EVERY = 25


@dataclass(frozen=True)
class PretrainConfig:
    """The run; steps count the short phase, whole_steps the one on whole clips after it."""

    seed: int = 0
    stem_width: int = 4
    size: int = 56
    num_frames: int = 32
    crop_size: int = 40
    crop_frames: int = 16
    num_pairs: int = 16
    steps: int = 1200
    whole_steps: int = 160
    peak_lr: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.02
    save_every: int = 100
    heldout_pairs: int = 256
    workers: int = 1

    @property
    def total_steps(self) -> int:
        """Optimiser steps of both phases."""
        return self.steps + self.whole_steps


class SeverityModel(nnx.Module):
    """The pathway and the linear heads that it is pretrained with."""

    def __init__(self, cfg: network.FastPathwayConfig, rngs: nnx.Rngs):
        self.pathway = network.FastPathway(cfg, rngs)
        self.pathway.stem.kernel[...] = _differencing_stem(self.pathway.stem.kernel[...])
        self.head = nnx.Linear(cfg.motion_dim, len(synthesis.SEVERITIES), rngs=rngs)

    def __call__(self, clips: jax.Array) -> jax.Array:
        """uint8 clips [N, K, S, S, 3] -> predicted severities [N, len(SEVERITIES)]."""
        return self.head(self.pathway(clips))


def _differencing_stem(kernel: jax.Array) -> jax.Array:
    """Lets two stem channels start as frame differences of either sign, blurred a little.

    A repeated frame is where both fall silent; from random filters alone that is learned very late.

    Args:
        kernel: [5, 7, 7, 3, C] freshly initialised.
    """
    blur = np.outer([1, 2, 1], [1, 2, 1]) / 48.0  # sums to 1 over 3x3 pixels and 3 colours
    difference = np.zeros(kernel.shape[:-1], np.float32)
    difference[2, 2:5, 2:5] = blur[..., None]
    difference[1, 2:5, 2:5] = -blur[..., None]
    return kernel.at[..., 0].set(difference).at[..., 1].set(-difference)


def severity_loss(predicted: jax.Array, true: jax.Array) -> jax.Array:
    """Squared error of severities [2 * pairs, 7], and of the differences inside each pair.

    The two clips of a pair are neighbours and show the same scene, so the differences ask for the
    distortion with the content held fixed.
    """
    error = predicted - true
    difference = error[0::2] - error[1::2]
    return jnp.mean(error**2 @ _WEIGHTS) + 0.5 * jnp.mean(difference**2 @ _WEIGHTS)


# --- Data ---------------------------------------------------------------------------------------

_pyramids: list[list[np.ndarray]] = []  # of this worker process


def _start_worker(paths: Sequence[str]) -> None:
    workers.begin()
    cv2.setNumThreads(1)
    _pyramids.extend(synthesis.load_pyramid(path) for path in paths)


def _make_batch(job: tuple[tuple[int, int], int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Clips uint8 [2 * pairs, K, crop, crop, 3] and severities of one (seed, step)."""
    key, num_pairs, size_and_crop, num_frames = job
    size, crop = divmod(size_and_crop, 1000)
    rng = np.random.default_rng(key)
    config = synthesis.SynthesisConfig(size, num_frames)
    clips, severities = [], []
    for _ in range(num_pairs):
        pair, severity = synthesis.synthetic_pair(_pyramids, config, rng)
        y, x = rng.integers(0, size - crop + 1, 2)
        clips.append(pair[:, :, y : y + crop, x : x + crop])
        severities.append(severity)
    return np.concatenate(clips), np.concatenate(severities)


def batches(
    config: PretrainConfig, paths: Sequence[str], jobs: Sequence[tuple]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches of `jobs`, in order, made by `config.workers` processes ahead of time."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(config.workers, _start_worker, (list(paths),)) as pool:
        ahead = 4 * config.workers
        waiting = [pool.apply_async(_make_batch, (job,)) for job in jobs[:ahead]]
        for job in [*jobs[ahead:], *[None] * len(waiting)]:
            yield waiting.pop(0).get()
            if job is not None:
                waiting.append(pool.apply_async(_make_batch, (job,)))


def _job(config: PretrainConfig, step: int) -> tuple:
    key = (config.seed, step)
    if step < config.steps:
        return key, config.num_pairs, config.size * 1000 + config.crop_size, config.crop_frames
    return key, config.num_pairs // 2, config.size * 1001, config.num_frames


# --- Training -----------------------------------------------------------------------------------


def _optimizer(config: PretrainConfig) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.peak_lr, config.warmup_steps, config.total_steps, config.peak_lr * 0.01
    )
    matrices = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay, mask=matrices),
    )


def pretrain(config: PretrainConfig, paths: Sequence[str], state_path: str) -> SeverityModel:
    """Trains, saving the whole state to `state_path` (continued from there if it exists)."""
    programs.keep()
    model = SeverityModel(network.FastPathwayConfig(config.stem_width), nnx.Rngs(config.seed))
    model.train()
    optimizer = _optimizer(config)
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    state = (params, stats, optimizer.init(params))
    first = 0
    if os.path.exists(state_path):
        state, first = _restore(state_path, state, config)
        logging.info("continuing at step %d from %s", first, state_path)

    @jax.jit
    def train_step(state, clips, severities):
        params, stats, opt_state = state

        def loss_fn(params):
            model = nnx.merge(graphdef, params, stats, copy=True)
            loss = severity_loss(model(clips), severities)
            return loss, nnx.state(model, nnx.BatchStat)

        (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), loss

    jobs = [_job(config, step) for step in range(first, config.total_steps)]
    losses, start = [], time.monotonic()
    for step, batch in enumerate(batches(config, paths, jobs), first + 1):
        state, loss = train_step(state, *batch)
        losses.append(float(loss))
        if step % _LOG_EVERY == 0 or step == config.total_steps:
            pace = (time.monotonic() - start) / len(jobs[: step - first])
            recent = np.mean(losses[-_LOG_EVERY:])
            logging.info("step %d: loss %.4f, %.2f s a step", step, recent, pace)
        if step % config.save_every == 0 or step == config.total_steps:
            _save(state_path, state, step, config)
    model = nnx.merge(graphdef, *state[:2])
    model.eval()
    return model


def _identity(config: PretrainConfig) -> str:
    return json.dumps(asdict(replace(config, workers=0, save_every=0, heldout_pairs=0)))


def _save(path: str, state, step: int, config: PretrainConfig) -> None:
    leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    temporary = f"{path}.tmp"
    save_file(leaves | {"step": np.array(step)}, temporary, {"config": _identity(config)})
    commit(temporary, path)


def _restore(path: str, state, config: PretrainConfig):
    with safe_open(path, "numpy") as file:
        if file.metadata()["config"] != _identity(config):
            raise ValueError(f"{path} is of another config: delete it or use its settings")
    saved = load_file(path)
    leaves, tree = jax.tree.flatten(state)
    restored = [jnp.asarray(saved[str(i)]) for i in range(len(leaves))]
    return jax.tree.unflatten(tree, restored), int(saved["step"])


# --- Held-out photographs -----------------------------------------------------------------------


def evaluate(model: SeverityModel, config: PretrainConfig, paths: Sequence[str]) -> dict:
    """Figures on whole clips made of held-out photographs.

    Returns:
        for jitter and stutter: the correlation of predicted and true severity over all clips, and
        how often the difference inside a pair has the right sign where the truth differs by 0.1.
    """
    graphdef, state = nnx.split(model)
    predict = jax.jit(lambda state, clips: nnx.merge(graphdef, state)(clips))
    num_jobs = -(-config.heldout_pairs // 8)
    jobs = [
        ((config.seed, _HELDOUT_SEED + i), 8, config.size * 1001, config.num_frames)
        for i in range(num_jobs)
    ]
    pairs = [(np.asarray(predict(state, c)), s) for c, s in batches(config, paths, jobs)]
    predicted, true = (np.concatenate(values) for values in zip(*pairs, strict=True))
    figures = {"clips": len(true)}
    for i, name in enumerate(synthesis.SEVERITIES[:2]):
        difference = true[0::2, i] - true[1::2, i]
        clear = np.abs(difference) >= 0.1
        agrees = (predicted[0::2, i] - predicted[1::2, i])[clear] * difference[clear] > 0
        figures[name] = {
            "correlation": round(float(np.corrcoef(predicted[:, i], true[:, i])[0, 1]), 4),
            "order_accuracy": round(float(agrees.mean()), 4),
        }
    return figures


def _command(config: PretrainConfig) -> str:
    """The command line of a run, without the machine's own paths."""
    defaults = asdict(PretrainConfig())
    options = [f" --{k} {v}" for k, v in asdict(config).items() if v != defaults[k]]
    return f"python -m vqa_jax.motion.pretrain --out FILE --photos DIR{''.join(options)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring; every field of PretrainConfig is an option."""
    parser = argparse.ArgumentParser(description="Pretrain the small motion extractor.")
    parser.add_argument("--out", required=True, help="safetensors to write; a .json lies beside it")
    parser.add_argument("--photos", action="append", default=[], help="folder of more photographs")
    for name, value in asdict(PretrainConfig()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    options = vars(parser.parse_args(argv))
    out, folders = pathlib.Path(options.pop("out")), options.pop("photos")
    config = PretrainConfig(**options)
    logging.set_verbosity(logging.INFO)
    train_paths, heldout_paths = synthesis.photographs(folders)
    out.parent.mkdir(parents=True, exist_ok=True)
    model = pretrain(config, train_paths, f"{out}.state")
    geometry = {"motion_size": str(config.size), "clip_len": str(config.num_frames)}
    save_file(weights.export_pathway(model.pathway), out, geometry)
    share(out)
    card = {
        "what": "fast pathway of SlowFast-R50, narrow, pretrained on synthetic clips",
        "command": _command(config),
        "config": asdict(config),
        "train_photographs": [pathlib.Path(path).name for path in train_paths],
        "heldout_photographs": [pathlib.Path(path).name for path in heldout_paths],
        "heldout": evaluate(model, config, heldout_paths),
    }
    out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    logging.info("%s: %s", out, card["heldout"])
    os.remove(f"{out}.state")


if __name__ == "__main__":
    main()
