"""What all commands share: errors of one line, Ctrl-C, readers that leave, Beam's options."""

import errno
import logging
import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest

from vqa_jax.cli import command
from vqa_jax.errors import VqaError
from vqa_jax.settings import DecodeLimits, SettingsError

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _program(handler, **settings):
    """A program with one command, `work`, that writes a table."""
    program, commands = command.parser("tool", "A tool.")
    sub = command.add(commands, "work", handler, "Works.", **settings)
    command.add_output(sub, "--csv", "text", "table")
    return program


def _raising(error: BaseException):
    def handler(_):
        raise error

    return handler


class _ToldError(VqaError):
    pass


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (_ToldError("x.mp4 is odd: mend it"), "error: x.mp4 is odd: mend it"),
        (
            RuntimeError("I/O error: No space left on device (os error 28)"),
            "error: No space left on device: free some space, or name another place",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "out.csv"),
            "error: out.csv: No space left on device: free some space, or name another place",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", b"br\xff"), "error: br\\udcff: No such"),
        (FileNotFoundError("runs is not a folder"), "error: runs is not a folder"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "error: Broken pipe"),  # not that of stdout
    ],
)
def test_known_errors_are_one_line(error, line, capsys):
    assert command.run(_program(_raising(error)), ["work"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_other_errors_are_ours_and_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run(_program(_raising(ZeroDivisionError())), ["work"])


def test_settings_become_told_errors_and_told_errors_stay():
    given = command.told_as_settings("--config: ")
    with pytest.raises(command.SettingsError, match=r"^--config: odd$"), given:
        raise ValueError("odd")
    with pytest.raises(_ToldError), command.told_as_settings():
        raise _ToldError("told")


def test_interruption_tells_what_is_kept(capsys):
    program = _program(_raising(KeyboardInterrupt()), kept="rows are in {csv}.partial")
    assert command.run(program, ["work", "--csv", "-"]) == 130
    assert capsys.readouterr().err == "\ninterrupted: rows are in -.partial\n"


@pytest.mark.parametrize(("arguments", "quiet"), [((), False), (("--quiet",), True)])
def test_results_and_status_are_the_commands_own(arguments, quiet, capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")

    def handler(args):
        levels.append(logging.getLogger("absl").getEffectiveLevel())
        return "br\udcff", 3

    levels = []
    for argv in (["work", *arguments], [*arguments, "work"]):
        assert command.run(_program(handler), argv) == 3
        assert capsys.readouterr().out == "br\\udcff\n"
    assert command.run(_program(handler), ["work", *arguments, "--csv", "/dev/stdout"]) == 3
    said = capsys.readouterr()
    assert said.out == "" and said.err == "br\\udcff\n"
    assert (min(levels) >= logging.WARNING) is quiet
    assert (os.environ["TQDM_DISABLE"] == "1") is quiet


def test_what_follows_two_hyphens_is_beams(capsys):
    def handler(args):
        return f"{args.beam} {args.csv}", 0

    program = _program(handler, takes_beam=True)
    assert command.run(program, ["work", "--csv=-", "--", "--runner=X", "-y"]) == 0
    assert capsys.readouterr().err == "['--runner=X', '-y'] -\n"
    with pytest.raises(SystemExit):
        command.run(program, ["work", "--runner=X"])
    assert "unknown option --runner; options of Beam come after --" in capsys.readouterr().err


_ENDLESS = """
import itertools, signal, sys, time
from vqa_jax.cli import command

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's children ignore it

def handler(args):
    for k in itertools.count():
        command.say(args, f"row {k}")
        time.sleep(float(args.csv and 0.01 or 0))

program, commands = command.parser("tool", "A tool.")
sub = command.add(commands, "work", handler, "Works.", kept="all of it")
command.add_output(sub, "--csv", "text", "table")
sys.exit(command.run(program, sys.argv[1:]))
"""


def _start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, "work", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_reader_that_leaves_ends_the_work_without_a_word():
    with _start() as process:
        assert process.stdout.readline() == "row 0\n"
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == ""


def test_ctrl_c_is_one_line():
    with _start("--csv", "/dev/null") as process:
        assert process.stdout.readline() == "row 0\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == "\ninterrupted: all of it\n"


def test_writers_of_a_save_that_has_failed_are_not_heard(monkeypatch):
    heard = []
    monkeypatch.setattr(sys, "__unraisablehook__", heard.append)
    for error in (RuntimeError("Event loop is closed"), RuntimeError("other"), OSError("x")):
        command._unraisable(types.SimpleNamespace(exc_type=type(error), exc_value=error))
    assert [str(told.exc_value) for told in heard] == ["other", "x"]


def test_limits_are_told_by_the_options_that_set_them():
    parser = command.Parser()
    command.add_limits(parser)
    limits = command.limits_of(parser.parse_args([]))
    assert limits == DecodeLimits(names=("--limit_seconds", "--limit_memory_mb"))
    arguments = ["--limit_seconds", "0", "--limit-memory-mb", "64", "--limit_pixels", "9"]
    given = command.limits_of(parser.parse_args(arguments))
    assert (given.seconds, given.memory_mb, given.pixels) == (0, 64, 9)
    with pytest.raises(SettingsError, match="start at 0"):
        command.limits_of(parser.parse_args(["--limit_seconds", "-1"]))
