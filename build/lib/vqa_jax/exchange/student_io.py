"""Loads a student from the checkpoints that circulate, and writes one in the authors' names."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from absl import logging
from flax import nnx, traverse_util
from safetensors.numpy import save_file
from tqdm import tqdm

from vqa_jax.exchange.names import DIALECTS, guess_dialect, ignored, student_rules
from vqa_jax.exchange.sizes import student_config
from vqa_jax.jobs.files import share
from vqa_jax.models.functional import FunctionalStudent, Params
from vqa_jax.models.student import Student, StudentConfig
from vqa_jax.weights.reader import Checkpoint, WeightsError
from vqa_jax.weights.rules import Path, Rule
from vqa_jax.weights.stream import load_parameter, stored

Paths = str | pathlib.Path | Sequence[str | pathlib.Path]


@dataclasses.dataclass(frozen=True)
class StudentSource:
    """Where each parameter of a student comes from; nothing is read but headers.

    cfg: sizes. leaves: every parameter's shape and dtype. found: those that checkpoints hold, each
    exactly once. scratch: the others, which start from random numbers.
    """

    cfg: StudentConfig
    leaves: Mapping[Path, jax.ShapeDtypeStruct]
    found: Mapping[Path, tuple[Checkpoint, Rule]]
    scratch: tuple[Path, ...]

    @property
    def nbytes(self) -> int:
        """Stored bytes of what will be read."""
        return sum(
            checkpoint.nbytes(key)
            for path, (checkpoint, rule) in self.found.items()
            for key in rule.keys(self.leaves[path].shape)
        )


def _is_part(path: Path, parts: Sequence[str]) -> bool:
    return any(path[0] == part or path[0].startswith(f"{part}_") for part in parts)


def match_student(
    paths: Paths, cfg: StudentConfig | None = None, keep_initial: Sequence[str] = ()
) -> StudentSource:
    """Finds every parameter of a student in one checkpoint, or in several that hold parts.

    Args:
        paths: safetensors file, index file of shards, or a folder with either; or several of them,
            as SigLIP's and Qwen2's.
        cfg: sizes; None: from the folders' config.json.
        keep_initial: parts that the files lack on purpose ("motion_projector", "severity").
            Low-rank additions always are such a part.

    Raises:
        WeightsError: with every missing, unexpected, duplicate and misshapen key.
        ValueError: keep_initial names no part of a student.
    """
    paths = [paths] if isinstance(paths, str | pathlib.Path) else list(paths)
    cfg = student_config(paths) if cfg is None else cfg
    leaves = traverse_util.flatten_dict(FunctionalStudent(cfg).abstract())
    held = stored(leaves)
    if unknown := [part for part in keep_initial if not any(_is_part(p, [part]) for p in leaves)]:
        known = sorted({path[0] for path in leaves})
        raise ValueError(f"no such part of this student: {unknown}; its parts are {known}")
    scratch = [p for p in held if _is_part(p, keep_initial) or p[-1].startswith("lora_")]
    holders: dict[Path, list[tuple[Checkpoint, Rule]]] = {p: [] for p in held if p not in scratch}
    problems: dict[str, list[str]] = {}
    for path in paths:
        checkpoint = Checkpoint(path)
        dialect = guess_dialect(set(checkpoint.shapes))
        if dialect is None:
            remedy = f"These are none of the names that are known: {', '.join(DIALECTS)}."
            raise WeightsError(checkpoint.path, {"unexpected": sorted(checkpoint.shapes)}, remedy)
        logging.info("%s: %d tensors, named as %s", path, len(checkpoint.shapes), dialect)
        rules = [rule for rule in student_rules(cfg, dialect) if rule.path in holders]
        for rule in rules:
            holders[rule.path].append((checkpoint, rule))
        for kind, entries in _misfits(checkpoint, cfg, dialect, rules, leaves).items():
            problems.setdefault(kind, []).extend(entries)
    for path, found in holders.items():
        name = "/".join(path)
        if not found:
            problems.setdefault("missing", []).append(f"{name} (our name), in none of them")
        elif len(found) > 1:
            where = " and ".join(str(checkpoint.path) for checkpoint, _ in found)
            problems.setdefault("duplicate", []).append(f"{name} (our name), in {where}")
    if any(problems.values()):
        remedy = (
            "Check the config against the file; parts that start from random numbers are named by "
            "--scratch (keep_initial in Python)."
        )
        raise WeightsError(pathlib.Path(", ".join(map(str, paths))), problems, remedy)
    return StudentSource(
        cfg, leaves, {path: found[0] for path, found in holders.items()}, tuple(scratch)
    )


def _misfits(checkpoint: Checkpoint, cfg, dialect, rules: list[Rule], leaves) -> dict:
    """What is wrong in one checkpoint; every rule must be filled, every key accounted for."""
    wanted = {
        key: rule.foreign_shape(leaves[rule.path].shape)
        for rule in rules
        for key in rule.keys(leaves[rule.path].shape)
    }
    untied = []
    if cfg.llm.tie_embeddings and DIALECTS[dialect].head is not None:
        # The head may be there, as a copy of the embedding.
        head = f"{DIALECTS[dialect].head}.weight"
        embedding = next((r.key for r in rules if r.path == ("llm", "embedding")), None)
        if head in checkpoint.shapes and embedding in checkpoint.shapes:
            wanted[head] = wanted[embedding]
            if not _equal(checkpoint, head, embedding):
                untied = [f"{head} differs from {embedding}: load with tie_embeddings=False"]
    found, skip = checkpoint.shapes, ignored(cfg, dialect)
    return {
        "missing": sorted({key for key in wanted if key not in found} | set(checkpoint.absent)),
        "unexpected": sorted(key for key in found if key not in wanted and not skip.fullmatch(key)),
        "duplicate": checkpoint.duplicates,
        "not in the index": checkpoint.unindexed,
        "misshapen": [
            f"{key}: {found[key]} instead of {shape}"
            for key, shape in sorted(wanted.items())
            if key in found and found[key] != shape
        ],
        "untied": untied,
    }


def _equal(checkpoint: Checkpoint, first: str, second: str) -> bool:
    """Whether two tensors are the same, compared block by block."""
    shape = checkpoint.shapes[first]
    if shape != checkpoint.shapes[second]:
        return False
    blocks = Rule((), first, "same").blocks(shape, checkpoint.itemsize(first))
    return all(
        np.array_equal(checkpoint.read(first, b.theirs), checkpoint.read(second, b.theirs))
        for b in blocks
    )


def scratch_params(
    source: StudentSource, seed: int, leaves: Mapping[Path, jax.ShapeDtypeStruct] | None = None
) -> dict[Path, jax.Array]:
    """The parts that no checkpoint holds, as `Student(cfg, nnx.Rngs(seed))` would draw them.

    Args:
        source: of the student.
        seed: of the draw.
        leaves: dtype and sharding of each; None: `source.leaves`.
    """
    leaves = leaves or source.leaves
    if not source.scratch:
        return {}

    def initial():
        drawn = traverse_util.flatten_dict(
            nnx.to_pure_dict(nnx.state(Student(source.cfg, nnx.Rngs(seed))))
        )
        return {path: drawn[path].astype(leaves[path].dtype) for path in source.scratch}

    # Jitted, so that only the wanted parts are ever made, and each where it belongs.
    return jax.jit(initial, out_shardings={p: leaves[p].sharding for p in source.scratch})()


def load_params(
    paths: Paths,
    cfg: StudentConfig | None = None,
    *,
    keep_initial: Sequence[str] = (),
    seed: int = 0,
    like: Params | None = None,
) -> Params:
    """A student's parameters from checkpoints, streamed to where they belong.

    Args:
        paths: as for `match_student`.
        cfg: sizes; None: from the folders' config.json.
        keep_initial: parts that start from scratch with `seed`, see `match_student`.
        seed: of those parts.
        like: ShapeDtypeStructs with the dtype and sharding of every parameter; None: the config's
            dtype, on the first device.

    Raises:
        WeightsError: with every missing, unexpected, duplicate and misshapen key.
    """
    source = match_student(paths, cfg, keep_initial)
    leaves = source.leaves if like is None else traverse_util.flatten_dict(like)
    flat = scratch_params(source, seed, leaves)
    with tqdm(
        total=source.nbytes, desc="load", unit="B", unit_scale=True, delay=5, mininterval=5
    ) as bar:
        for path, (checkpoint, rule) in source.found.items():
            flat |= load_parameter(checkpoint, rule, leaves, path)
            bar.update(sum(map(checkpoint.nbytes, rule.keys(leaves[path].shape))))
    return traverse_util.unflatten_dict({path: flat[path] for path in leaves})


def load_student(
    paths: Paths,
    cfg: StudentConfig | None = None,
    *,
    keep_initial: Sequence[str] = (),
    seed: int = 0,
    like: Params | None = None,
) -> Student:
    """A student with the weights of checkpoints; arguments and errors as for `load_params`."""
    cfg = student_config(paths) if cfg is None else cfg
    params = load_params(paths, cfg, keep_initial=keep_initial, seed=seed, like=like)
    return FunctionalStudent(cfg).bind(params)


def foreign_tensors(
    cfg: StudentConfig, params: Params, dialect: str
) -> dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]:
    """Foreign name -> (shape, what makes the tensor), so that one need not hold all of them.

    Args:
        cfg: sizes, without low-rank additions.
        params: the student's parameters.
        dialect: key of DIALECTS. Tied heads are not repeated.
    """
    flat = traverse_util.flatten_dict(params)
    out: dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]] = {}
    for rule in student_rules(cfg, dialect):
        array = flat[rule.path]
        for layer, key in enumerate(rule.keys(array.shape)):
            make = functools.partial(_foreign_tensor, rule, array, layer)
            out[key] = rule.foreign_shape(array.shape), make
    return out


def _foreign_tensor(rule: Rule, array: jax.Array, layer: int) -> np.ndarray:
    one = np.asarray(array[layer] if rule.stacked else array)
    return np.ascontiguousarray(rule.to_foreign(one))


def foreign_state(student: Student, dialect: str = "original") -> dict[str, np.ndarray]:
    """The student's parameters under foreign names (tied heads are not repeated)."""
    params = nnx.to_pure_dict(nnx.state(student, nnx.Param))
    tensors = foreign_tensors(student.cfg, params, dialect)
    return {key: make() for key, (_, make) in tensors.items()}


def save_student(student: Student, file: str | pathlib.Path, dialect: str = "original") -> None:
    """Writes one safetensors file that `load_student` and the authors' code read."""
    save_file(foreign_state(student, dialect), file, metadata={"format": "pt"})
    share(file)
