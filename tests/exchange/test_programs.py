"""Exported programs: they score without us, and are made from shapes."""

import dataclasses
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax.export
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from tests.fixtures import noise_video
from tests.fixtures.broken_files import flip
from vqa_jax import loading
from vqa_jax.exchange import export, exported
from vqa_jax.exchange import programs as export_program
from vqa_jax.media import view as media_view
from vqa_jax.media.crops import scoring_groups
from vqa_jax.media.preprocess import Preprocess
from vqa_jax.models import prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.models.presets import PRESETS
from vqa_jax.motion import extractor as motion
from vqa_jax.motion import weights as slowfast
from vqa_jax.weights import bundle

SERVE = str(pathlib.Path(__file__).parents[2] / "launch" / "serve_exported.py")


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("serve_exported", SERVE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def serve(folder, *arguments):
    path = [p for p in sys.path if p and not os.path.isdir(os.path.join(p, "vqa_jax"))]
    return subprocess.run(
        [sys.executable, SERVE, folder, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )


def test_programs_score_a_video_without_us(programs):
    with open(os.path.join(programs, exported.MANIFEST), encoding="utf-8") as file:
        manifest = json.load(file)
    for name in ("levels", "motion", "prepare", "solve"):
        with open(os.path.join(programs, f"{name}.stablehlo"), "rb") as file:
            program = jax.export.deserialize(file.read())
        assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    assert manifest["calibration"]["scores"] == [0, 25, 50, 75, 100]
    assert manifest["model"]["fingerprint"] == bundle.fingerprint(loading.NAMED["tiny"])
    modes = {entry.stat().st_mode for entry in os.scandir(programs) if entry.is_file()}
    assert len(modes) == 1  # safetensors would keep its files from others
    done = serve(programs)  # the self-test's video: logits by the script, score here
    assert done.returncode == 0, done.stderr
    want = load_file(os.path.join(programs, exported.SELFTEST))["score"]
    assert float(done.stdout.split()[1]) == pytest.approx(float(want), abs=0.02)


def test_programs_of_the_published_size_are_made_from_shapes():
    pytest.importorskip("flatbuffers")  # pinned: an older .venv lacks it
    cfg = dataclasses.replace(
        PRESETS["ov_7b"], motion_dim=128, param_dtype="bfloat16", compute_dtype="bfloat16"
    )
    student, pre = FunctionalStudent(cfg), Preprocess(max_key_frames=10)
    spec = bundle.StudentSpec("ov_7b", cfg, pre, 10, "", ())
    extractor = slowfast.load_features(motion.TINY_WEIGHTS).model
    weights = traverse_util.flatten_dict(student.abstract(), sep="/")
    weights |= export_program.motion_weights(extractor)
    shapes = {
        "frames": (np.uint8, 5, 10, 384, 384, 3),
        "motion": (np.float32, 5, 10, 128),
        "num_frames": (np.int32, 5),
        "num_motion": (np.int32, 5),
        "matrix": (np.float32, 5, 5),
        "curve_q": (np.float32, 99),
        "curve_score": (np.float32, 99),
    }
    anchors = {k: jax.ShapeDtypeStruct(sizes, dtype) for k, (dtype, *sizes) in shapes.items()}
    made = export_program.programs(
        student, spec, prompt.tiny_tokenizer(), extractor, weights, anchors, 1
    )
    keys = jax.export.deserialize(made["prepare"]).out_avals[0]
    length = 10 * 196 + 1 + 10  # the first video's tokens, before which a few words come
    assert keys.shape[:2] == (28, 5) and length < keys.shape[2] < length + 60
    assert sum(map(len, made.values())) < 2**20  # no weights inside
    assert jax.export.deserialize(made["levels"]).out_avals[0].shape == (5, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_programs_score_a_video_file_as_score_does(name, tmp_path_factory, programs, tmp_path):
    out = programs
    if name == "small":
        out = str(tmp_path_factory.mktemp("small"))
        export.export(loading.NAMED[name], out, "stablehlo")
    path = noise_video.write(tmp_path / "a.mp4", noise_video.noise(3.5))
    wanted = loading.load(name).score(path).score
    for _ in range(2):  # the same each time
        done = serve(out, path)
        assert done.returncode == 0, done.stderr
        assert float(done.stdout.split()[1]) == pytest.approx(wanted, abs=1e-3)
    (tmp_path / "text.mp4").write_text("no video")
    done = serve(out, str(tmp_path / "text.mp4"))
    assert done.returncode == 1 and "text.mp4" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_programs_score_another_video_from_its_clips(programs, tmp_path):
    student = loading.load("tiny")
    pre = student.engine.spec.preprocess
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 200, (pre.num_tiles, *[pre.tile_size] * 2, 3), dtype=np.uint8)
    size = (pre.max_clips, pre.clip_len, pre.motion_size, pre.motion_size, 3)
    clips = rng.integers(0, 200, size, dtype=np.uint8)
    encoded = student.encode_views([(tiles, clips)])[0]
    groups = scoring_groups(tiles, pre, student.engine.spec.num_frames)
    video = tmp_path / "video.npz"
    np.savez(
        video,
        frames=groups,
        clips=clips,
        num_frames=np.int32(encoded.num_frames),
        num_motion=np.int32(encoded.num_motion),
    )
    done = serve(programs, str(video))
    assert done.returncode == 0, done.stderr
    found = float(done.stdout.split()[1])
    assert found == pytest.approx(student.judge.score([encoded])[0].score.score, abs=0.02)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        (None, "is no export"),
        ("no JSON", "is no export"),
        ("[]", "is no export"),
        ('{"files": {}}', "is no export"),
        ('{"format": "orbax", "files": {}}', "no programs"),
        ('{"format": "stablehlo", "files": {"../x": "0"}}', "which is not in it"),
        ('{"format": "stablehlo", "files": {"gone": "0"}}', "missing or damaged"),
    ],
)
def test_the_serving_script_refuses_what_is_no_export(script, manifest, reason, tmp_path):
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(SystemExit, match=reason):
        script.checked(tmp_path)


@pytest.mark.parametrize("view", ["crops", "squash", "fit"])
def test_the_script_makes_the_arrays_that_scoring_makes(script, view, tmp_path):
    path = noise_video.write(tmp_path / "a.mp4", noise_video.noise(3.5))
    small = {"motion_size": 16, "clip_len": 4, "min_clips": 1, "max_clips": 5}
    tiles = {"tile_size": 40, "num_tiles": 6} if view == "crops" else {}
    pre = Preprocess(view=view, image_size=32, max_key_frames=3, **tiles, **small)
    settings = {**dataclasses.asdict(pre), "num_frames": 2, "motion_extractor": "x"}
    found, again = (script.arrays_of(path, dict(settings)) for _ in range(2))
    frames, clips, _ = media_view.video_input(path, pre)
    groups = scoring_groups(frames, pre, 2)
    np.testing.assert_array_equal(found["frames"], groups)
    np.testing.assert_array_equal(found["clips"][: len(clips)], clips)
    assert len(found["clips"]) == 5 and not found["clips"][len(clips) :].any()
    assert (found["num_frames"], found["num_motion"]) == (groups.shape[1], len(clips))
    for name, values in found.items():
        np.testing.assert_array_equal(again[name], values)


def test_the_serving_script_refuses_damage(programs, tmp_path):
    copy = str(tmp_path / "copy")
    shutil.copytree(programs, copy)
    flip(os.path.join(copy, "weights.safetensors"))
    done = serve(copy)
    assert done.returncode == 1 and "missing or damaged" in done.stderr
