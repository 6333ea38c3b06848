"""The front door: every command by every way in; mistakes and bad places before any work."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.fixtures import front_doors
from vqa_jax import loading
from vqa_jax.cli import main

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _exit_code(arguments) -> int:
    with pytest.raises(SystemExit) as caught:
        main.main(arguments)
    return caught.value.code


@pytest.mark.parametrize("arguments", front_doors.all_commands(main.main), ids=" ".join)
def test_every_command_has_help(arguments, capsys):
    assert _exit_code([*arguments, "--help"]) == 0
    assert " ".join(["usage: vqa_jax", *arguments]) in capsys.readouterr().out


def test_other_hyphens_and_the_version(capsys):
    assert _exit_code(["anchor-sensitivity", "--help"]) == 0
    assert "usage: vqa_jax anchor_sensitivity" in capsys.readouterr().out
    assert _exit_code(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vqa_jax 0")
    assert main.main(["score", "x.mp4", "--both-orders", "--student", "gone"]) == 1


def test_the_module_is_the_same_program_and_its_help_comes_without_jax():
    code = (
        "import runpy, sys\nsys.argv = ['vqa_jax', '--help']\n"
        "try:\n    runpy.run_module('vqa_jax', run_name='__main__')\n"
        "except SystemExit as e:\n    sys.exit(e.code or any(\n"
        "        name in sys.modules for name in ('jax', 'scipy', 'pyarrow', 'cv2')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m vqa_jax [") and "score" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["score"], "PATH"),
        (["score", "x.mp4", "--studnet", "y"], "unknown option --studnet; did you mean --student?"),
        (["score", "x.mp4", "--stud", "y"], "unknown option --stud"),  # no abbreviations
        (["scroe"], "unknown command 'scroe'; did you mean score?"),
        (["frobnicate"], "one of score, "),
        (["teachers", "veiw", "x"], "did you mean view?"),
        (["train", "--data", "x", "--workdir", "y"], "--config"),
        (["evaluate", "--student", "s", "--data", "d", "--out", "o", "--config=c"], "--config"),
        (
            ["evaluate", "--student", "s", "--data", "d", "--out", "o", "--config.a=c"],
            "evaluate takes no --config",
        ),
        (["evaluate", "--student", "s", "--data", "d"], "--out"),
        (["train", "--data", "x", "--workdir", "y", "--config", "configs/gone.py"], "gone.py"),
        (["train", "--data", "x", "--workdir", "y", "--config=tiny", "stray"], "stray"),
        (
            ["train", "--data", "x", "--workdir", "y", "--config=tiny"]
            + ["--config.train.optm.total_steps", "1"],
            "did you mean optim?",
        ),
        (
            ["train", "--data", "x", "--workdir", "y", "--config=tiny"]
            + ["--config.train.momentum=1"],
            "momentum",
        ),
    ],
)
def test_usage_errors_are_one_message_and_code_2(arguments, message, capsys):
    assert _exit_code(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert captured.err.startswith("usage: vqa_jax") and "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "x.mp4"], "shipped student"),
        (["score", "x.mp4", "--student", "gone"], "gone is not a folder"),
        (["evaluate", "--student", "gone", "--data", "d", "--out", "o"], "gone is not a folder"),
        (["train", "--config", "tiny", "--data", "gone", "--workdir", "w"], "data_prep"),
        (
            ["train", "--config", "tiny", "--data", "d", "--workdir", "w"]
            + ["--config.train.optim.total_steps=1"],
            "warmup_steps",
        ),
    ],
)
def test_known_failures_are_one_line_and_code_1(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "SHIPPED", str(tmp_path / "none"))
    assert main.main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


# Arguments that are right but for OUT, which stands for a place that cannot be written.
WRITERS = {
    "score --csv": ["score", "x.mp4", "--csv", "OUT"],
    "score --json": ["score", "x.mp4", "--json", "OUT"],
    "timeline": ["timeline", "x.mp4", "--out", "OUT"],
    "train": ["train", "--config", "tiny", "--data", "d", "--workdir", "OUT"],
    "motion": ["motion", "--data", "OUT"],
    "plan": ["plan", "--config", "tiny", "--topology", "cpu:8", "--json", "OUT"],
    "anchors": ["anchors", "--student", "OUT", "--data", "d"],
    "evaluate": ["evaluate", "--student", "s", "--data", "d", "--out", "OUT"],
    "relabel": ["relabel", "--config", "tiny", "--student", "s", "--iteration", "2"]
    + ["--data", "OUT"],
    "report": ["report", "--run", "OUT"],
    "convert": ["convert", "--from", "x", "--to", "OUT"],
    "export": ["export", "--student", "s", "--format", "orbax", "--out", "OUT"],
    "choose_anchors": ["choose_anchors", "--pool", "p.csv", "--out", "OUT"],
    "anchor_sensitivity": ["anchor_sensitivity", "x.mp4", "--out", "OUT"],
    "teachers list": ["teachers", "list", "--json", "OUT"],
    "teachers score": ["teachers", "score", "--teachers", "noise", "--videos", "x", "--out", "OUT"],
    "teachers agree": ["teachers", "agree", "--scores", "x.csv", "--out", "OUT"],
    "teachers view": ["teachers", "view", "x.mp4", "--out", "OUT"],
    "doctor": ["doctor", "--benchmark", "KoNViD-1k", "--videos", "v", "--labels", "l.csv"]
    + ["--csv", "OUT"],
    "benchmark": ["benchmark", "--labels", "l.csv", "--predictions", "p.csv", "--out", "OUT"],
}
TAKES_FOLDER = {"timeline", "train", "motion", "anchors", "evaluate", "relabel", "report"} | {
    *("convert", "export", "anchor_sensitivity", "teachers score", "teachers agree", "benchmark"),
}


@pytest.mark.parametrize("place", ["wrong kind", "below a file", "/proc/out"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    name, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    wrong = "file" if name in TAKES_FOLDER else "folder"
    out = {"wrong kind": wrong, "below a file": "file/out", "/proc/out": "/proc/out"}[place]
    # Nothing else of the arguments exists: a line on the place shows that it is looked at first.
    assert main.main([out if a == "OUT" else a for a in WRITERS[name]]) == 1
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert said.err.startswith(f"error: {out} ") and ": name" in said.err
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_report_names_its_file_even_for_an_empty_run(tmp_path, capsys):
    assert main.main(["report", "--run", str(tmp_path)]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    assert (tmp_path / "report.html").stat().st_size > 1000
