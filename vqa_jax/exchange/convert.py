"""Turns published checkpoints into a student's folder of ours, without holding it in memory."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging
from tqdm import tqdm

from vqa_jax.exchange.sizes import student_config
from vqa_jax.exchange.student_io import StudentSource, match_student, scratch_params
from vqa_jax.jobs.files import exclusive, remove_temporary
from vqa_jax.jobs.replaced import replacing_set
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models.presets import PRESETS
from vqa_jax.models.student import StudentConfig
from vqa_jax.motion import extractor as motion
from vqa_jax.weights import bundle, companions
from vqa_jax.weights.stream import read_blocks
from vqa_jax.weights.writer import write_safetensors

_OTHER_FORMATS = ("manifest.json", "config.json")  # of an export or a corpus, of a checkpoint
NUM_FRAMES = 10  # key frames of a video that the published students are given at most


def convert(
    paths: Sequence[str],
    folder: str,
    *,
    preset: str = "",
    dtype: str = "float32",
    scratch: Sequence[str] = (),
    seed: int = 0,
    extractor: str = "",
) -> str:
    """Writes the student in `paths` as a bundle to `folder`; everything is checked before.

    Args:
        paths: checkpoint folders or files: a whole student, or its parts (a tower and a decoder).
        folder: is made; an older student in it is replaced once the new one is whole.
        preset: sizes by name; "": from the checkpoints' config.json.
        dtype: of the stored weights, "float32" or "bfloat16", and of what is computed with them
            unless a preset says otherwise.
        scratch: parts that the checkpoints lack and that start from random numbers.
        seed: of those.
        extractor: SlowFast safetensors, which is copied beside the student; "": the one in the
            folders, if any, else the shipped small one.

    The tokenizer is the decoder's: a tower's folder has one too, of its own text side.

    Returns:
        a sentence on what was written.

    Raises:
        WeightsError: with every missing, unexpected, duplicate and misshapen key.
        ValueError: an unknown preset or part.
        FileNotFoundError: no such extractor.
        BundleError: the folder holds another format.
        CorpusError: a file that no student brought is in the way.
    """
    if preset and preset not in PRESETS:
        raise ValueError(f"unknown student {preset!r}: one of {sorted(PRESETS)}")
    cfg = PRESETS[preset] if preset else student_config(paths)
    preset = preset or _preset_of(cfg)
    compute = PRESETS[preset].compute_dtype if preset else dtype
    cfg = dataclasses.replace(cfg, param_dtype=dtype, compute_dtype=compute)
    source = match_student(paths, cfg, scratch)
    weights = _extractor_file(paths, extractor)
    spec = _spec(cfg, preset, weights)
    with exclusive(folder):
        remove_temporary(folder)
        with replacing_set(folder, bundle.CONFIG_FILE, _set_before(folder)) as new:
            companions.copy(_decoder_paths(paths, source), new, weights)
            _write_weights(source, seed, os.path.join(new, bundle.WEIGHTS_FILE))
            facts = {"converted_from": [os.path.basename(os.path.abspath(p)) for p in paths]}
            facts |= {"scratch": sorted({"/".join(path) for path in source.scratch})}
            bundle.save_spec(new, spec, facts)
    count = sum(int(np.prod(leaf.shape)) for leaf in source.leaves.values())
    fresh = f", {len(source.scratch)} arrays of it from scratch" if source.scratch else ""
    return f"{folder}: {count / 1e9:.2f} billion parameters in {dtype}{fresh}"


def _set_before(folder: str) -> dict[str, None]:
    """Files of the student that is in the folder; none where it holds none.

    Raises:
        BundleError: the folder holds something else that is loaded as a whole.
    """
    for name in _OTHER_FORMATS:
        if os.path.exists(os.path.join(folder, name)):
            raise bundle.BundleError(f"{folder} holds another format ({name}): name another folder")
    if not bundle.is_complete(folder):
        return {}
    names = (bundle.CONFIG_FILE, bundle.WEIGHTS_FILE, *companions.FILES)
    return dict.fromkeys(names)


def _write_weights(source: StudentSource, seed: int, file: str) -> None:
    drawn = {path: np.asarray(value) for path, value in scratch_params(source, seed).items()}
    tensors = {"/".join(path): (leaf.shape, leaf.dtype) for path, leaf in source.leaves.items()}
    with tqdm(total=source.nbytes, desc="convert", unit="B", unit_scale=True, mininterval=5) as bar:

        def pieces(name: str) -> Iterator[np.ndarray]:
            path = tuple(name.split("/"))
            if path in drawn:
                yield drawn[path]
                return
            for _, block in read_blocks(*source.found[path], source.leaves[path].shape):
                yield block
                bar.update(block.nbytes)

        write_safetensors(file, tensors, pieces)


def _preset_of(cfg: StudentConfig) -> str:
    """Name of the preset with these sizes, or "".

    What it is stored and computed in does not matter, nor the rotary base, which later releases of
    a decoder change.
    """

    def sizes(student: StudentConfig) -> StudentConfig:
        llm = dataclasses.replace(student.llm, rope_theta=1.0)
        return dataclasses.replace(student, llm=llm, param_dtype="", compute_dtype="")

    return next((name for name, known in PRESETS.items() if sizes(known) == sizes(cfg)), "")


def _spec(cfg: StudentConfig, preset: str, weights: str | None) -> bundle.StudentSpec:
    preprocess = Preprocess(image_size=cfg.vision.image_size, max_key_frames=NUM_FRAMES)
    features = motion.load_extractor(weights)
    if features.motion_dim != cfg.motion_dim:
        logging.warning(
            "the student wants motion features of %d numbers, %s makes %d: convert again with "
            "--extractor and a converted SlowFast-R50, before it scores or is trained",
            cfg.motion_dim,
            weights or "the shipped extractor",
            features.motion_dim,
        )
    return bundle.StudentSpec(
        preset, cfg, preprocess, NUM_FRAMES, features.fingerprint(preprocess), ()
    )


def _decoder_paths(paths: Sequence[str], source: StudentSource) -> list[str]:
    """The checkpoint that holds the decoder; all where none does."""
    holders = {
        checkpoint.path for path, (checkpoint, _) in source.found.items() if path[0] == "llm"
    }
    return [path for path in paths if pathlib.Path(path) in holders] or list(paths)


def _extractor_file(paths: Sequence[str], extractor: str) -> str | None:
    if extractor:
        return extractor
    return next(filter(None, map(companions.motion_beside, paths)), None)
