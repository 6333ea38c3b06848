"""Options that name URLs; against a real S3 server."""

import pathlib

import pytest

from vqa_jax.cli import command, urls
from vqa_jax.jobs import places
from vqa_jax.jobs.files import CorpusError
from vqa_jax.jobs.stores import PlaceError


def _program(work):
    """A program with one command that does `work(args)`."""
    program, commands = command.parser("prog", "A program.")
    sub = command.add(commands, "work", work, "Works.", takes_beam=True)
    command.add_input(sub, "--data", "folder")
    command.add_input(sub, "--scores", "tables", action="append", default=[])
    command.add_output(sub, "--out", "folder", "folder")
    command.add_output(sub, "--csv", "text", "table")
    command.add_shares(sub)
    sub.add_argument("--coordinator")
    return program


def _copy(args):
    """Copies its input to both outputs."""
    data = pathlib.Path(args.data, "x").read_bytes()
    pathlib.Path(args.out).mkdir(exist_ok=True)
    pathlib.Path(args.out, "y").write_bytes(data)
    pathlib.Path(args.csv).write_bytes(data)
    return f"{args.data} is in {args.out} and {args.csv}", 0


def test_a_command_reads_and_writes_urls(s3, capsys):
    s3.write("data/x", b"1")
    out = ["--out", "s3://bucket/out", "--csv=s3://bucket/tables/a.csv"]
    status = command.run(_program(_copy), ["work", "--data", "s3://bucket/data", *out])
    assert status == 0
    expected = "s3://bucket/data is in s3://bucket/out and s3://bucket/tables/a.csv\n"
    assert capsys.readouterr().out == expected
    assert s3.read() == {"data/x": b"1", "out/y": b"1", "tables/a.csv": b"1"}


def test_local_paths_stay_local(tmp_path):
    (tmp_path / "x").write_text("1")
    out = ["--out", str(tmp_path / "out"), "--csv", str(tmp_path / "a.csv")]
    assert command.run(_program(_copy), ["work", "--data", str(tmp_path), *out]) == 0
    assert (tmp_path / "out" / "y").read_text() == (tmp_path / "a.csv").read_text() == "1"


def test_lists_and_named_tables_are_staged(s3, tmp_path):
    s3.write("a.csv", b"path\n")
    told = []
    work = lambda args: told.extend(args.scores) or 0  # noqa: E731
    given = ["s3://bucket/a.csv", "SET=s3://bucket/a.csv", str(tmp_path)]
    argv = [f"--scores={one}" for one in given]
    assert command.run(_program(work), ["work", *argv]) == 0
    path = places.staged("s3://bucket/a.csv")
    assert told == [path, f"SET={path}", str(tmp_path)]


def test_what_a_failed_command_has_made_is_put(s3, capsys):
    def fail(args):
        pathlib.Path(args.out).mkdir(exist_ok=True)
        pathlib.Path(args.out, "part").write_text("1")
        raise CorpusError(f"{args.out}/table is damaged")

    assert command.run(_program(fail), ["work", "--out", "s3://bucket/out"]) == 1
    assert capsys.readouterr().err.endswith("error: s3://bucket/out/table is damaged\n")
    assert s3.read() == {"out/part": b"1"}


def test_a_result_that_cannot_be_put_is_an_error(s3, capsys):
    s3.write("data/x", b"1")
    s3.disturb = lambda method, key: "500" if (method, key) == ("PUT", "out/y") else None
    out = ["--out", "s3://bucket/out", "--csv", "s3://bucket/a.csv"]
    assert command.run(_program(_copy), ["work", "--data", "s3://bucket/data", *out]) == 1
    told = capsys.readouterr()
    assert "error: s3://bucket/out/y: " in told.err and not told.out


@pytest.mark.parametrize("url", ["s3://nobucket/out", "ftp://host/out"])
def test_an_output_that_cannot_be_written_is_found_before_the_work(s3, capsys, url):
    begun = []
    assert command.run(_program(begun.append), ["work", "--out", url]) == 1
    assert f"error: {url}: " in capsys.readouterr().err and not begun


@pytest.mark.parametrize(
    "more",
    [["--processes", "2"], ["--coordinator", "auto"], ["--", "--runner=DaskRunner"]],
)
def test_processes_that_share_a_folder_need_one(s3, capsys, more):
    begun = []
    assert command.run(_program(begun.append), ["work", "--out", "s3://bucket/out", *more]) == 1
    assert "s3://bucket/out: processes that share work" in capsys.readouterr().err and not begun


def test_fields_of_a_configuration_are_staged(s3):
    ml_collections = pytest.importorskip("ml_collections")
    s3.write("weights.safetensors", b"1")
    config = ml_collections.ConfigDict(
        {"a": {"weights": "s3://bucket/weights.safetensors"}, "b": 1}
    )
    urls.stage_fields(config)
    assert pathlib.Path(config.a.weights).read_bytes() == b"1"
    config.a.weights = "s3://bucket/none"
    with pytest.raises(PlaceError, match="s3://bucket/none holds nothing"):
        urls.stage_fields(config)
