"""The front door of the preparation: help, names, mistakes and bad places, before any work."""

import os
import pathlib
import subprocess
import sys

import pytest

from data_prep import commands
from data_prep.scenes.content import ClipConfig
from data_prep.scenes.scenes import SceneConfig
from tests.fixtures import front_doors

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMANDS = [
    "scenes",
    "clips",
    "parts",
    "metrics",
    "select",
    "build",
    "split",
    "pairs",
    "human-listing",
    "human-pairs",
    "verify",
    "costs",
]


def _exit_code(arguments) -> int:
    with pytest.raises(SystemExit) as caught:
        commands.main(arguments)
    return caught.value.code


def test_every_command_has_help_under_both_spellings(capsys):
    assert front_doors.all_commands(commands.main) == [[name] for name in COMMANDS]
    for name in COMMANDS:
        for spelling in (name, name.replace("-", "_")):
            assert _exit_code([spelling, "--help"]) == 0
            assert f"usage: python -m data_prep {name} [" in capsys.readouterr().out


def test_help_and_mistakes_come_without_beam():
    code = (
        "import runpy, sys\nsys.argv = ['data_prep', 'build', '--vidoes=x']\n"
        "try:\n    runpy.run_module('data_prep', run_name='__main__')\n"
        "except SystemExit as e:\n    sys.exit(e.code if 'apache_beam' not in sys.modules else 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown option --vidoes; did you mean --videos?" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["polish"], "one of scenes, "),
        (["biuld"], "did you mean build?"),
        (["build", "--videos=v", "--data=d"], "--config"),
        (["build", "--videos=v", "--data=d", "--config=tinny"], "did you mean tiny?"),
        (["build", "--videos=v", "--data=d", "--config=tiny", "--config.prep.still=1"], "stills"),
        (["build", "--videos=v", "--data=d", "--config=tiny", "--runner=X"], "come after --"),
        (["pairs", "--data=d", "--config=tiny", "--", "--runner=X"], "--runner=X"),
        (["verify", "d", "--config.seed=1"], "verify takes no --config"),
        (["verify"], "DIR"),
        (["scenes", "--out=o", "--size=big"], "384x288"),
        (["select", "--metrics=m", "--target=t", "--out=o", "--num=0"], "--num 0"),
    ],
)
def test_usage_errors_are_one_message_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _exit_code(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1]
    assert captured.err.startswith("usage: python -m data_prep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["scenes", "--out", "OUT"], "file"),
        (["metrics", "--videos", "v", "--out", "OUT"], "folder"),
        (["select", "--metrics", "m", "--target", "t", "--num", "1", "--out", "OUT"], "folder"),
        (["build", "--config", "tiny", "--videos", "v", "--data", "OUT"], "file"),
        (["pairs", "--config", "tiny", "--data", "OUT"], "file"),
        (["human-listing", "--config=finetune", "--videos=v", "--mos=m", "--out", "OUT"], "file"),
        (["human-pairs", "--config", "finetune", "--mos", "m", "--data", "OUT"], "file"),
        (["verify", "d", "--contact_sheet", "OUT"], "folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    arguments, wrong, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for out in (wrong, "file/out", "/proc/out"):
        assert commands.main([out if a == "OUT" else a for a in arguments]) == 1
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1
        assert said.err.startswith(f"error: {out} ") and ": name" in said.err
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--config=tiny", "--videos=gone", "--data=d"], "gone is no folder"),
        (["build", "--config=tiny", "--config.prep.hdr=x", "--videos=v", "--data=d"], "hdr"),
        (["pairs", "--config=tiny", "--data=gone"], "gone"),
        (["verify", "gone"], "gone"),
        (["metrics", "--videos=gone", "--out=m.parquet"], "gone"),
        (["select", "--metrics=gone", "--target=t", "--num=1", "--out=o.csv"], "t"),
        (["select", "--metrics=m", "--target=t", "--num=1", "--out=o", "--quotas=a=x"], "a=x"),
        (["scenes", "--out=o", "--num=0"], "num 0"),
        (["clips", "--out=o", "--moves=pan,fly"], "name some of"),
        (["human-pairs", "--config=finetune", "--data=gone", "--mos=x.csv"], "gone"),
    ],
)
def test_known_failures_are_one_line_and_code_1(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert commands.main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error


def test_scenes_are_made_as_their_settings_say_by_default(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("data_prep.scenes.scenes.make_scenes", lambda *args: seen.append(args))
    assert commands.main(["scenes", "--out", str(tmp_path)]) == 0
    assert seen[0][:2] == (SceneConfig(), str(tmp_path))
    assert "scenes.json" in capsys.readouterr().out


def test_clips_are_made_as_their_settings_say_by_default(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("data_prep.scenes.content.make_clips", lambda *args: seen.append(args))
    assert commands.main(["clips", "--out", str(tmp_path)]) == 0
    assert seen[0][:2] == (ClipConfig(), str(tmp_path))
    assert "scenes.json" in capsys.readouterr().out
