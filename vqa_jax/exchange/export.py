"""Exports a student: as parameters, under the names of others, or as programs without us.

Whatever the format, the folder says what it is and can be checked (`vqa_jax.exchange.exported`).
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from safetensors.numpy import save_file

from vqa_jax.devices import programs as compiled
from vqa_jax.exchange import exported, llava_folder, programs
from vqa_jax.exchange.exported import CALIBRATION, MANIFEST, PARAMS, SELFTEST, ExportError
from vqa_jax.extras import MissingExtraError
from vqa_jax.jobs.files import (
    exclusive,
    file_sha256,
    read_json,
    remove_temporary,
    replacing,
    share,
    write_sealed,
)
from vqa_jax.jobs.replaced import is_interrupted, names_below, replacing_set
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent, Params, with_additions
from vqa_jax.models.tokenizer import Tokenizer
from vqa_jax.motion import extractor as motion
from vqa_jax.pairs.levels import LEVEL_WEIGHTS, LEVELS
from vqa_jax.scoring.anchors import AnchorSet
from vqa_jax.scoring.engine import Engine, VideoInput
from vqa_jax.scoring.judge import Judge
from vqa_jax.weights import bundle, companions
from vqa_jax.weights.flaw_head import FlawHead

FORMATS = ("orbax", "safetensors", "stablehlo")
OTHER_FORMATS = {"student.json": "a student", "config.json": "a published checkpoint"}
WEIGHTS, ANCHORS = "weights.safetensors", "anchors.safetensors"  # of programs
_ATOL = {"float32": 2e-3, "bfloat16": 0.25}  # of level logits, between machines
_CURVE = np.linspace(-6, 6, 2401)  # q at which programs know the score


@dataclasses.dataclass(frozen=True)
class _Source:
    """A student that is ready to be written: no low-rank additions, no training parts."""

    folder: str
    spec: bundle.StudentSpec
    student: FunctionalStudent
    params: Params
    tokenizer: Tokenizer
    anchors: AnchorSet | None
    head: FlawHead | None


def export(folder: str, out: str, form: str, names: str = "hf") -> str:
    """Writes the student in `folder` to `out`; the manifest comes last and makes it complete.

    Args:
      folder: a student's.
      out: folder; an older export in it is replaced once the new one is whole and checked, other
        files stay.
      form: one of FORMATS.
      names: of format safetensors, key of `llava_folder.NAMES`.

    Returns:
      a sentence on what was written.

    Raises:
      BundleError: no student there, or a damaged one.
      ExportError: a program is wanted and the anchors or the motion weights are missing, or the
        folder holds another format.
      CorpusError: a file that no export wrote is in the way.
      MissingExtraError: a program is wanted and flatbuffers is not installed.
    """
    if form not in FORMATS or names not in llava_folder.NAMES:
        raise ValueError(f"{form}, {names}: formats are {FORMATS}, names {[*llava_folder.NAMES]}")
    compiled.keep()
    source = _open(folder)
    if form == "safetensors" and source.spec.tower:
        raise ExportError(
            f"{folder}: LLaVA-OneVision has no names for its tower: use another format, or the "
            "folder itself"
        )
    if form == "safetensors" and names == "original" and source.student.cfg.llm.qk_norm:
        raise ExportError(
            f"{folder}: LLaVA-OneVision's own code has no decoder of Qwen3: use --names hf or "
            "decoder"
        )
    if form == "stablehlo" and source.anchors is None:
        raise ExportError(f"{folder} has no anchors: run `python -m vqa_jax anchors` for it")
    if form == "stablehlo" and importlib.util.find_spec("flatbuffers") is None:
        raise MissingExtraError("flatbuffers", "serve")  # jax.export writes programs with it
    with exclusive(out):
        remove_temporary(out)
        with replacing_set(out, MANIFEST, _set_before(out)) as new:
            calibration = None
            if source.anchors is not None:
                engine = Engine(source.student, source.params, source.spec, source.tokenizer)
                judge = Judge(engine, source.anchors, bundle.fingerprint(folder))
                calibration = _calibration(judge)
            if form == "stablehlo":
                _write_programs(source, judge, new)
            else:
                _write_params(source, new, form, names)
            manifest = _manifest(source, new, form, names, calibration)
            write_sealed(os.path.join(new, MANIFEST), manifest)
            exported.check_files(new)
            if form != "stablehlo":
                exported.load_params(exported.read(new))  # its self-test
    size = sum(os.path.getsize(os.path.join(out, name)) for name in manifest["files"])
    return f"{out}: {form}, {size / 1e6:,.1f} MB, checked"


def _set_before(out: str) -> dict[str, str]:
    """Files of the export that is in the folder, with their hashes; none where it holds none.

    Raises:
      ExportError: the folder holds something else that is loaded as a whole.
    """
    path, found = os.path.join(out, MANIFEST), {}
    if os.path.exists(path):
        manifest = read_json(path, dict)
        if not isinstance(manifest.get("files"), dict) or manifest.get("format") not in FORMATS:
            raise ExportError(f"{path} is not an export's: name another folder")
        found = {**manifest["files"], MANIFEST: file_sha256(path)}
    for name, what in OTHER_FORMATS.items():
        there = os.path.exists(os.path.join(out, name)) and not is_interrupted(out)
        if there and name not in found:
            raise ExportError(f"{out} holds {what} ({name}): name another folder")
    return found


def _open(folder: str) -> _Source:
    spec = bundle.load_spec(folder)
    student = FunctionalStudent(spec.student)
    params = student.merge(bundle.load_params(folder, student))
    head = FlawHead.of(params, spec)
    cfg = with_additions(spec.student, 0)
    cfg, params = llava_folder.without_training_parts(cfg, params)
    spec = dataclasses.replace(spec, student=cfg, severity_simulators=())
    anchors = AnchorSet.beside(folder, spec)
    tokenizer = bundle.make_tokenizer(spec, folder)
    return _Source(folder, spec, FunctionalStudent(cfg), params, tokenizer, anchors, head)


def _test_video(source: _Source, groups: int, seed: int) -> VideoInput:
    rng = np.random.default_rng(seed)
    spec, size = source.spec, source.spec.preprocess.image_size
    frames = rng.integers(0, 256, (groups, spec.num_frames, size, size, 3), dtype=np.uint8)
    clips = max(1, spec.preprocess.max_clips)
    features = rng.normal(0, 0.1, (clips, source.student.cfg.motion_dim)).astype(np.float32)
    return VideoInput(frames, features)


def _write_params(source: _Source, out: str, form: str, names: str) -> None:
    cfg, bank = source.student.cfg, source.spec.bank
    if form == "orbax":
        with ocp.StandardCheckpointer() as writer:
            writer.save(os.path.abspath(os.path.join(out, PARAMS)), source.params)
    else:
        llava_folder.write(out, cfg, source.params, names)
    if form == "safetensors" and names == "decoder":  # its own folder is to be whole
        apart = os.path.join(out, os.path.dirname(llava_folder.NAMES[names].model))
        companions.copy([source.folder], apart, names=companions.TOKENIZER_FILES)
    companions.copy([source.folder], out)
    if source.head is not None:
        source.head.save(out)
    if source.anchors is not None:
        os.makedirs(os.path.join(out, CALIBRATION), exist_ok=True)
        source.anchors.save(os.path.join(out, CALIBRATION))
    pair = [_test_video(source, 1, seed) for seed in (0, 1)]
    sizes = [bank.frame_tokens] * 2, [bank.motion_tokens] * 2
    row = prompt.layout(prompt.scoring_ids(source.tokenizer), *sizes, bank)
    test = {
        "frames": np.stack([v.frames[0] for v in pair])[None],
        "motion": np.stack([v.motion for v in pair])[None],
        "tokens": row.tokens[None],
        "answer_pos": row.answer_pos[None],
        "level_ids": np.asarray(prompt.level_ids(source.tokenizer), np.int32),
    }
    inputs = (test[name] for name in exported.INPUTS)
    test["logits"] = exported.level_logits(source.student, source.params, *inputs)
    _save(test, out, SELFTEST)


def _write_programs(source: _Source, judge: Judge, out: str) -> None:
    spec = source.spec
    extractor = motion.load_for(source.folder, spec).pathway
    weights = {k: np.asarray(v) for k, v in bundle.flatten(source.params).items()}
    weights |= programs.motion_weights(extractor)
    inputs, bank = judge.anchors.inputs, spec.bank
    groups = {len(v.frames) for v in inputs}
    if len(groups) != 1:
        raise ExportError(
            f"{source.folder}: anchors of {sorted(groups)} groups of frames: choose "
            "anchors that have as many"
        )

    if spec.preprocess.view == "fit" and groups != {1}:
        raise ExportError(
            f"{source.folder}: its videos have any number of groups of frames, which programs "
            "compare with anchors of one: choose still pictures as anchors"
        )

    def frames_of(video: VideoInput) -> np.ndarray:
        kind = np.uint8 if video.frames.dtype == np.uint8 else np.float32  # tokens are halves
        return _filled(video.frames.astype(kind), spec.num_frames, 1)

    def motion_of(video: VideoInput) -> np.ndarray:
        return _filled(video.motion, bank.motion_tokens, 0)

    rows = [video for video in inputs for _ in range(max(groups))]
    curve, _ = judge.scale.score_map.apply(_CURVE)
    anchors = {
        "frames": np.concatenate([frames_of(v) for v in inputs]),
        "motion": np.stack([motion_of(v) for v in rows]),
        "num_frames": np.array([v.frames.shape[1] for v in rows], np.int32),
        "num_motion": np.array([len(v.motion) for v in rows], np.int32),
        "matrix": judge.scale.matrix.astype(np.float32),
        "curve_q": _CURVE.astype(np.float32),
        "curve_score": curve.astype(np.float32),
    }
    made = programs.programs(
        source.student, spec, source.tokenizer, extractor, weights, anchors, max(groups)
    )
    for name, program in made.items():
        with replacing(os.path.join(out, f"{name}.stablehlo")) as path, open(path, "wb") as file:
            file.write(program)
    _save(weights, out, WEIGHTS)
    _save(anchors, out, ANCHORS)
    video = _test_video(source, max(groups), 0)
    if video.motion.shape[0] > 1:  # some padding, so that it is tested too
        video = dataclasses.replace(video, motion=video.motion[:-1])
    encoded = next(judge.engine.encode([video]))
    test = {
        "frames": frames_of(video),
        "motion": motion_of(video),
        "num_frames": np.array(video.frames.shape[1], np.int32),
        "num_motion": np.array(len(video.motion), np.int32),
        "logits": judge.engine.against_anchors(encoded).astype(np.float32),
        "score": np.array(judge.score([encoded])[0].score.score, np.float32),
    }
    _save(test, out, SELFTEST)


def _save(arrays: dict[str, np.ndarray], out: str, name: str) -> None:
    save_file(arrays, os.path.join(out, name))
    share(os.path.join(out, name))


def _filled(values: np.ndarray, count: int, axis: int) -> np.ndarray:
    padding = [(0, 0)] * values.ndim
    padding[axis] = (0, count - values.shape[axis])
    return np.pad(values, padding)


def _calibration(judge: Judge) -> dict[str, Any]:
    anchors, scale = judge.anchors, judge.scale
    return {
        "anchors": list(anchors.names),
        "scores": list(anchors.scores),
        "scale": anchors.scale,
        "arbitrary": anchors.arbitrary,
        "direction": "higher is better",
        "anchor_q": scale.anchor_q.tolist(),
        "anchor_matrix": scale.matrix.tolist(),
        "score_of_q": dataclasses.asdict(scale.score_map),
    }


def _manifest(
    source: _Source, out: str, form: str, names: str, calibration: dict[str, Any] | None
) -> dict[str, Any]:
    spec, bank = source.spec, source.spec.bank
    return {
        "format": form,
        "loads": [WEIGHTS, ANCHORS, SELFTEST] if form == "stablehlo" else [],
        "names": names if form == "safetensors" else None,
        "model": {
            "what": "no-reference video quality: compares the second video with the first",
            "source": "arXiv 2505.03631, independent implementation",
            "spec": spec.to_dict(),
            "parameters": sum(v.size for v in jax.tree.leaves(source.params)),
            "fingerprint": bundle.fingerprint(source.folder),
            "training": read_json(os.path.join(source.folder, bundle.CONFIG_FILE))["facts"],
            "limits": "scores of other students or anchor sets must not be compared with these",
        },
        "calibration": calibration,
        "prompt": {
            "ids": prompt.scoring_ids(source.tokenizer),
            "placeholder": prompt.IMAGE_PLACEHOLDER,
            "placeholders": "first video's frames and newline, its motion, the second's likewise",
            "levels": list(LEVELS),
            "level_weights": list(LEVEL_WEIGHTS),
            "level_ids": list(prompt.level_ids(source.tokenizer)),
            "frame_tokens": bank.frame_tokens,
            "motion_tokens": bank.motion_tokens,
        },
        "preprocessing": {
            **dataclasses.asdict(spec.preprocess),
            "num_frames": spec.num_frames,
            "motion_extractor": spec.extractor,
        },
        "inputs": {  # of the programs
            "frames": "uint8 RGB [groups, num_frames, S, S, 3], zeros behind the real frames",
            "tower": "where there is one, tower_HxW makes tokens [P, W] of each frame, rounded to "
            "halves, and levels takes them as float32 [groups, num_frames, P, W]",
            "clips": "uint8 RGB [max_clips, clip_len, s, s, 3], zeros behind the real clips",
            "num_frames": "int32 [], real frames of a group",
            "num_motion": "int32 [], real clips",
            "groups": "crops and fit: tile or frame i of n is in group i modulo (n / num_frames); "
            "squash: one. Where anchors have one, each group meets them alone; logits are averaged",
        },
        "selftest": {"file": SELFTEST, "atol": _ATOL[spec.student.compute_dtype]},
        "files": {name: file_sha256(os.path.join(out, name)) for name in names_below(out)},
    }
