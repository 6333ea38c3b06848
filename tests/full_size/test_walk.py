"""The whole way of a user at 0.5B on one CPU: every command as the pages tell it, in their order.

A step finds what the ones before it left in the work folder; a step that passed is not repeated.
"""

import csv
import hashlib
import json
import pathlib
import shutil
import socket
import subprocess
import time

import httpx2
import numpy as np
import pytest
from safetensors import safe_open

from tests.full_size import published_files
from tests.full_size.conftest import MOST_GB, ROOT, Step, is_running
from vqa_jax.corpus.video_table import read_video_table
from vqa_jax.weights import bundle, companions

pytestmark = pytest.mark.slow

CONFIG = ROOT / "tests/full_size/config.py"
DIALECTS = ("original", "hf", "hf_before_4_52")
CLIP = "clips/scene_0000_train_photo.mp4"
STUDENT_BYTES = 1_789_303_744  # of 0.9B parameters in bfloat16
WEIGHTS = bundle.WEIGHTS_FILE
OWN_GB = 2.0  # of a process besides its arrays: programs, and the file that it starts from


def _weights(folder: pathlib.Path) -> dict[str, str]:
    """Hash of every array of a student, which is never in memory as a whole."""
    with safe_open(folder / WEIGHTS, framework="np") as file:
        return {
            name: hashlib.sha256(file.get_tensor(name).view(np.uint8)).hexdigest()
            for name in file.keys()  # noqa: SIM118
        }


def _changed(step: Step, student: str) -> set[str]:
    """Arrays of a trained student that are not as it began."""
    before, after = (_weights(step.folder / name) for name in ("START", student))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _train(preset: str, *changes: str) -> list[object]:
    command = ["vqa_jax", "train", "--config", f"{CONFIG}:{preset}", "--data", "corpus"]
    return [*command, "--config.train.init_from=START", "--workdir", preset, *changes]


def _metrics(step: Step, preset: str) -> dict[int, dict[str, float]]:
    lines = (step.folder / preset / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row for row in map(json.loads, lines)}


def _assert_usable(step: Step, preset: str) -> None:
    """What training wrote is a student of its size that lacks nothing, and its rows are sane."""
    student = step.folder / preset / "student"
    assert (student / WEIGHTS).stat().st_size == STUDENT_BYTES
    for name in (companions.TOKENIZER_FILE, companions.MOTION_FILE):
        assert (student / name).read_bytes() == (step.folder / "START" / name).read_bytes()
    spec = bundle.load_spec(str(student))
    assert (spec.student.param_dtype, spec.student.compute_dtype) == ("bfloat16", "bfloat16")
    for row in _metrics(step, preset).values():
        assert 0 < row["train/loss"] < 30 and row["train/grad_norm"] > 0, row


def _score(step: Step, student: str) -> float:
    out = step.folder / f"{step.name}.csv"
    step.run("vqa_jax", "score", CLIP, "--student", student, "--csv", out)
    (row,) = _rows(out)
    assert row["error"] == "", row
    return float(row["score"])


def test_published_files(step, shared):
    """Three checkpoints of the same weights under other names, and SlowFast."""
    published_files.write_slowfast(step.folder / "slowfast.safetensors")
    for dialect in DIALECTS:
        shapes = json.loads((shared / f"checkpoints/qwen2_0_5b.{dialect}.json").read_text())
        folder = step.folder / dialect
        shutil.rmtree(folder, ignore_errors=True)
        tokenizer = shared / "qwen2_tokenizer"
        config = published_files.CONFIGS[dialect]
        published_files.write_checkpoint(folder, shapes, config, tokenizer)
        assert (folder / "model.safetensors").stat().st_size > 2.05e9


@pytest.mark.parametrize("dialect", DIALECTS)
def test_convert(step, dialect):
    """Whatever the names, the student is the same to the bit, and so are its level logits."""
    out = "START" if dialect == "original" else f"from_{dialect}"
    said = step.run(
        *("vqa_jax", "convert", "--from", dialect, "--to", out, "--dtype", "bfloat16"),
        *("--scratch", "motion_projector", "--extractor", "slowfast.safetensors"),
    )
    assert "0.89 billion parameters in bfloat16, 4 arrays of it from scratch" in said
    assert step.rows[-1]["peak_gb"] < 3
    spec = bundle.load_spec(str(step.folder / out))
    assert spec.preset == "ov_0_5b" and spec.student.compute_dtype == "bfloat16"
    assert (step.folder / out / WEIGHTS).stat().st_size == STUDENT_BYTES
    if out != "START":
        assert spec == bundle.load_spec(str(step.folder / "START"))
        assert _weights(step.folder / out) == _weights(step.folder / "START")
        shutil.rmtree(step.folder / out)
    shutil.rmtree(step.folder / dialect)


def test_scenes(step):
    step.run("data_prep", "scenes", "--out", "clips", "--num", 3, "--seconds", 2, "--seed", 0)
    assert (step.folder / CLIP).stat().st_size > 10_000


def test_build(step):
    """Frames of 384 and clips of 224 pixels, two frames a version."""
    # By a pattern, or the scenes' own split would hold none of three out.
    clips = ("--videos", "clips/*.mp4", "--data", "corpus")
    step.run("data_prep", "build", "--config", f"{CONFIG}:authors", *clips)
    table = read_video_table(str(step.folder / "corpus"))
    assert sorted(row["split"] for row in table) == ["heldout"] * 5 + ["train"] * 10
    manifest = json.loads((step.folder / "corpus/manifest.json").read_text())
    view = manifest["settings"]["preprocess"]
    assert (view["image_size"], view["motion_size"], view["max_key_frames"]) == (384, 224, 2)


def test_motion(step):
    said = step.run("vqa_jax", "motion", "--data", "corpus", "--extractor", "slowfast.safetensors")
    assert "256 features a clip" in said and "motion features of 15 videos" in said


def test_pairs(step):
    step.run("data_prep", "pairs", "--config", f"{CONFIG}:authors", "--data", "corpus")
    counts = json.loads((step.folder / "corpus/pairs_1.json").read_text())["counts"]
    assert counts["train"] >= 2 and counts["heldout"] >= 2


def test_verify(step):
    step.run("data_prep", "verify", "corpus")
    assert (step.folder / "corpus/contact_sheet.png").stat().st_size > 10_000


def test_train_authors(step):
    """Tower and projectors; the decoder stays as it was to the bit."""
    step.run(*_train("authors"))
    _assert_usable(step, "authors")
    assert "heldout/loss" in _metrics(step, "authors")[1]
    changed = _changed(step, "authors/student")
    assert {name.split("/")[0] for name in changed} == {
        *("vision", "vision_projector", "motion_projector"),
    }
    shutil.rmtree(step.folder / "authors/checkpoints")


def test_train_lora_killed_and_resumed(step):
    """Two steps: killed once the first is saved, started again, and no step computed twice."""
    saved = step.folder / "lora/checkpoints/1"

    def kill(child: subprocess.Popen) -> None:
        while not saved.exists():
            assert is_running(child), "it ended before its first step was saved"
            time.sleep(1)
        child.kill()

    changes = "--config.train.optim.total_steps=2", "--config.train.heldout_pairs=0"
    train = _train("lora", *changes)
    step.during(kill, *train, status=-9)
    first = _metrics(step, "lora")
    assert 1 in first and not (step.folder / "lora/student").exists()
    held = sum(p.stat().st_size for p in saved.parent.rglob("*") if p.is_file())
    assert held < 0.8e9, f"a checkpoint of the additions takes {held / 1e9:.1f} GB"
    step.run(*train)
    both = _metrics(step, "lora")
    assert both.keys() == {1, 2} and both[1] == first[1]
    ledger = (step.folder / "lora/goodput.jsonl").read_text().split("\n")
    starts = [json.loads(line)["first"] for line in ledger if line]
    assert starts[0] == 0 and starts[-1] == 1
    _assert_usable(step, "lora")
    changed = _changed(step, "lora/student")
    parts = {name.split("/")[0] for name in changed}
    assert parts == {"llm", "vision_projector", "motion_projector"}
    merged = {"wq", "wk", "wv", "wo", "w_gate", "w_up", "w_down"}
    assert {name.split("/")[-1] for name in changed if name.startswith("llm/")} <= merged
    shutil.rmtree(step.folder / "lora")


def test_train_paper(step):
    """Everything, with two moments each; where memory is short the plan tells it."""
    step.run("vqa_jax", "plan", "--config", f"{CONFIG}:paper", "--topology", "cpu:1",
        "--mesh=1,1,1", "--steps", "train", "--json", "plan.json")  # fmt: skip
    plan = json.loads((step.folder / "plan.json").read_text())["steps"]["train"]
    needed = plan["memory"]["total"] / 1e9 + OWN_GB
    if needed > MOST_GB:
        pytest.skip(f"a step takes {needed:.1f} GB of memory")
    step.run(*_train("paper", "--config.train.heldout_pairs=0"))
    _assert_usable(step, "paper")
    parts = {name.split("/")[0] for name in _changed(step, "paper/student")}
    assert parts == {"vision", "llm", "vision_projector", "motion_projector", "newline"}
    shutil.rmtree(step.folder / "paper")


def test_compare(step):
    """Random weights have a taste of their own; which it is decides what the anchors are."""
    clips = sorted(path.relative_to(step.folder) for path in step.folder.glob("clips/*.mp4"))
    step.run("vqa_jax", "compare", *clips, "--student", "authors/student",
        "--json", "compare.json")  # fmt: skip
    found = json.loads((step.folder / "compare.json").read_text())
    assert len(found["pairs"]) == 3 and sorted(v["rank"] for v in found["versions"]) == [1, 2, 3]


def test_anchors(step):
    """As people would have scored the clips if they had the student's taste.

    Of a corpus's versions `anchors` would choose some by their severity, and refuse the student,
    which knows nothing of that.
    """
    versions = json.loads((step.folder / "compare.json").read_text())["versions"]
    rows = [f"{v['path']},{50 * (3 - v['rank'])}" for v in versions]
    (step.folder / "anchors.csv").write_text("\n".join(["path,mos", *rows]) + "\n")
    step.run("vqa_jax", "anchors", "--student", "authors/student", "--table", "anchors.csv")
    found = json.loads((step.folder / "authors/student/anchors.json").read_text())
    assert found["scores"] == [0, 50, 100] and len(set(found["names"])) == 3


def test_score(step):
    score = _score(step, "authors/student")
    assert np.isfinite(score)
    (step.folder / "score.json").write_text(json.dumps(score))


def test_evaluate(step):
    step.run("vqa_jax", "evaluate", "--student", "authors/student", "--data", "corpus",
        "--out", "evaluation")  # fmt: skip
    found = json.loads((step.folder / "evaluation/evaluation.json").read_text())
    pairs = _rows(step.folder / "evaluation/pairs.csv")
    assert found["num_pairs"] == len(pairs) > 0 and 0 <= found["accuracy"] <= 1
    scores = _rows(step.folder / "evaluation/scores.csv")
    assert len(scores) == 5 and all(np.isfinite(float(row["score"])) for row in scores)


def test_relabel(step):
    step.run("vqa_jax", "relabel", "--config", f"{CONFIG}:authors", "--student", "authors/student",
        "--data", "corpus", "--iteration", 2)  # fmt: skip
    facts = json.loads((step.folder / "corpus/relabel_2.json").read_text())
    assert facts["pool_videos"] == 10 and not facts["failed_videos"]
    assert json.loads((step.folder / "corpus/pairs_2.json").read_text())["counts"]["train"] > 0


def test_serve(step):
    """One request to the service; told to end, it ends well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = []

    def ask(child: subprocess.Popen) -> None:
        video = (step.folder / CLIP).read_bytes()
        while not answers:
            assert is_running(child), "the service ended"
            try:
                address = f"http://127.0.0.1:{port}/v1/score"
                files = {"video": ("clip.mp4", video)}
                answers.append(httpx2.post(address, files=files, timeout=3600).json())
            except httpx2.ConnectError:
                time.sleep(5)
        child.terminate()

    command = ["vqa_jax", "serve", "--student", "authors/student", "--port", port]
    step.during(ask, *command, "--work_seconds", 3000)
    wanted = json.loads((step.folder / "score.json").read_text())
    assert answers[0]["result"]["score"] == pytest.approx(wanted, abs=1e-3), answers
