"""Text for a terminal."""

import logging

import pytest
from absl import logging as absl_logging

from vqa_jax import terminal
from vqa_jax.cli import command, main, score_table
from vqa_jax.scoring.results import Result


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a b/ü 中.mp4", "a b/ü 中.mp4"),
        ("\x1b[2Ja", "\\x1b[2Ja"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("a\r\x07\x9b1m", "a\\r\\x07\\x9b1m"),
        ("\u202eab\u2066", "\\u202eab\\u2066"),
        ("\udcff.mp4", "\\udcff.mp4"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_name_is_one_line_and_steers_nothing(raw, shown):
    assert terminal.name(raw) == shown
    assert terminal.name(shown) == shown


def test_text_keeps_its_lines_and_a_message_indents_them():
    assert terminal.text("a\n\tb\x1b[0m") == "a\n\tb\\x1b[0m"
    assert terminal.message("a\nerror: b") == "a\n  error: b"


def test_errors_tables_and_logs_use_it(capsys, tmp_path):
    hostile = str(tmp_path / "x\x1b[31m\nerror: y")
    assert main.main(["score", hostile, "--student", hostile]) == 1
    error = capsys.readouterr().err
    assert "\x1b" not in error and "\n  error: y" in error

    table = score_table.render([Result(hostile, 3.0), Result(hostile, error=hostile)], 5)
    assert table.count("x\\x1b[31m\\nerror: y") == 3 and "\x1b" not in table

    record = absl_logging.get_absl_logger().makeRecord(
        "absl", logging.INFO, "f", 1, "read %s", (hostile,), None
    )
    assert command.clean(record)
    assert record.getMessage() == f"read {tmp_path}/x\\x1b[31m\n  error: y"
