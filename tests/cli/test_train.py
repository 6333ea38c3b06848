"""The commands that make a student: what `plan` says, refuses and prints."""

import dataclasses
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
from safetensors import safe_open

from tests.fixtures import tiny_corpus
from vqa_jax.cli import main
from vqa_jax.devices import topology as topology_lib
from vqa_jax.exchange import student_io
from vqa_jax.models import presets, prompt
from vqa_jax.models.functional import FunctionalStudent
from vqa_jax.motion import extractor
from vqa_jax.planning import compiled, plan
from vqa_jax.weights import bundle, companions


def test_command_says_what_to_install(monkeypatch, capsys):
    def absent(*_, **__):
        raise RuntimeError("no libtpu")

    monkeypatch.setattr(topology_lib.topologies, "get_topology_desc", absent)
    monkeypatch.setitem(sys.modules, "libtpu", None)
    assert main.main(["plan", "--config=tiny", "--topology", "v5e:2x2"]) == 1
    assert 'pip install "vqa_jax[plan]"' in capsys.readouterr().err


def test_command_refuses_batches_and_lengths_that_do_not_fit(capsys):
    start = ["plan", "--config=tiny", "--topology", "cpu:8", "--mesh=1,8,1"]
    assert main.main([*start, "--pairs=12"]) == 1
    assert "12 pairs do not divide over 8" in capsys.readouterr().err
    assert main.main([*start, "--tokens=5"]) == 1
    assert "5 tokens" in capsys.readouterr().err


def test_gpus_and_scoring_are_estimated(capsys):
    start = ["plan", "--config=tiny", "--topology", "h100:8"]
    assert main.main([*start, "--mesh=1,8,1"]) == 1
    assert "add --search" in capsys.readouterr().err
    assert main.main([*start, "--search", "--steps=score"]) == 0
    said = capsys.readouterr().out
    assert "h100:8: estimates, nothing was compiled" in said and "200,000 videos" in said
    assert main.main([*start, "--search", "--steps=score", "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["estimates"][0]
    assert best["fits"] and best["relabel_chip_hours"]["step"] < best["relabel_chip_hours"]["apart"]
    assert main.main([*start, "--search", "--mesh=1,8,1"]) == 1
    assert "leave --mesh out" in capsys.readouterr().err


def test_command_prints_what_was_planned(monkeypatch, capsys):
    seen = {}

    def pretend(settings, spec, chips, mesh, steps, pairs, tokens, dtype, cache_dtype):
        seen.update(mesh=dict(mesh.shape), steps=steps, preset=spec.preset, dtype=dtype)
        memory = compiled.Memory(1, 2, 3, 4, 5, 17_000_000_000, -1e9)
        return [
            compiled.StepPlan(
                "train", 8, 99, memory, 2.0, 0, 0, 1.0, None, None, {}, (), {}, None, 1
            )
        ]

    monkeypatch.setattr(plan, "plan_run", pretend)
    arguments = ["plan", "--config", "ov_7b:paper", "--topology=cpu:8", "--mesh=2,-1,1"]
    assert main.main([*arguments, "--steps=train"]) == 1  # it does not fit
    assert "DOES NOT FIT, 1.00 GB too much" in capsys.readouterr().out
    assert seen == {
        "mesh": {"data": 2, "fsdp": 4, "tensor": 1},
        "steps": "train",
        "preset": "ov_7b",
        "dtype": None,
    }
    main.main([*arguments[:-1], "--steps=score", "--dtype=int8"])  # by the rule of scoring
    assert seen["mesh"] == {"data": 8, "fsdp": 1, "tensor": 1} and seen["dtype"] == "int8"
    capsys.readouterr()
    main.main([*arguments, "--json"])
    plain = json.loads(capsys.readouterr().out)
    assert plain["steps"]["train"]["fits"] is False and plain["chips"] == 8


# A run at published settings but for sizes, on the corpus of the tests.
_CONFIG = """
from ml_collections import ConfigDict

from configs import ov_7b


def get_config(preset="authors"):
    config = ov_7b.get_config(preset)
    config.prep.preprocess = ConfigDict({preprocess})
    train = config.train
    train.checkpoint_every, train.log_every, train.heldout_pairs = 1, 1, 0
    train.input.num_frames = 2
    train.optim.total_steps, train.optim.warmup_steps = 2, 0
    config.relabel.misordered_pools = ()
    config.relabel.misordered_quota = config.relabel.gmad_quota = 4
    return config
"""


@pytest.fixture
def published(tmp_path, monkeypatch) -> dict[str, str]:
    """A checkpoint with the authors' names that knows the corpus, the corpus, a configuration.

    The preset `ov_7b` is small here and its motion network the shipped one, in a file of its own.
    """
    motion = str(tmp_path / "motion.safetensors")
    shutil.copy(extractor.TINY_WEIGHTS, motion)
    found = extractor.load_extractor(motion)
    monkeypatch.setattr(tiny_corpus, "EXTRACTOR", found.fingerprint(tiny_corpus.PREPROCESS))
    monkeypatch.setattr(tiny_corpus, "MOTION_DIM", found.motion_dim)
    cfg = dataclasses.replace(
        tiny_corpus.student_spec().student, num_severity_classes=0, compute_dtype="bfloat16"
    )
    monkeypatch.setitem(presets.PRESETS, "ov_7b", cfg)
    folder = tmp_path / "published"
    folder.mkdir()
    student = FunctionalStudent(cfg)
    known = student.bind(tiny_corpus.known_params(student))
    student_io.save_student(known, folder / "model.safetensors")
    prompt.tiny_tokenizer().save(folder / "tokenizer.json")
    config = tmp_path / "my_run.py"
    settings = dataclasses.asdict(tiny_corpus.PREPROCESS)
    config.write_text(_CONFIG.replace("{preprocess}", repr(settings)))
    data = tiny_corpus.write_corpus(str(tmp_path / "corpus"))
    return {"from": str(folder), "motion": motion, "config": str(config), "data": data}


@pytest.mark.slow
def test_published_weights_are_trained_and_what_is_written_goes_on_to_pairs(published, tmp_path):
    """Every command as the pages tell it, on the default mesh of eight devices."""

    def run(*arguments):
        assert main.main(list(arguments)) == 0, arguments

    given, data = str(tmp_path / "given"), published["data"]
    run("convert", "--from", published["from"], "--to", given, "--dtype=bfloat16", "--preset=ov_7b",
        "--extractor", published["motion"])  # fmt: skip
    for preset in ("authors", "lora", "paper"):
        workdir = str(tmp_path / preset)
        command = ["train", "--config", f"{published['config']}:{preset}", "--data", data]
        command += [f"--config.train.init_from={given}", "--workdir", workdir]
        run(*command, "--config.train.optim.peak_lr=1e-6")
        student = str(tmp_path / preset / "student")
        names = {path.name for path in pathlib.Path(student).iterdir()}
        assert names >= {companions.TOKENIZER_FILE, companions.MOTION_FILE}
        assert bundle.load_spec(student).student == dataclasses.replace(
            bundle.load_spec(given).student, param_dtype="bfloat16"
        )
        with safe_open(f"{student}/{bundle.WEIGHTS_FILE}", framework="np") as file:
            assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"BF16"}  # noqa: SIM118
    run("anchors", "--student", student, "--data", data)
    out = str(tmp_path / "evaluation")
    run("evaluate", "--student", student, "--data", data, "--out", out)
    found = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert found["accuracy"] > 0.9 and np.isfinite(found["srcc"])
    run("relabel", "--config", published["config"], "--student", student, "--data", data,
        "--iteration=2")  # fmt: skip


def test_what_a_student_starts_from_is_named(published, tmp_path, capsys):
    command = ["train", "--config", published["config"], "--data", published["data"]]
    command += ["--workdir", str(tmp_path / "run")]
    assert main.main(command) == 1
    assert "ov_7b takes its tokenizer from the student that it starts from" in (
        capsys.readouterr().err
    )
    wide = dataclasses.replace(presets.PRESETS["ov_7b"], motion_dim=256)
    presets.PRESETS["ov_7b"] = wide  # the fixture puts it back
    assert main.main(command) == 1
    assert "takes 256 motion features a clip, the shipped extractor gives 128: name a conv" in (
        capsys.readouterr().err
    )
