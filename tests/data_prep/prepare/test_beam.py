"""launch/prep.sh on real engines: the same bytes on each, also when a worker is killed mid-run."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from data_prep.prepare.job import build
from tests.fixtures import prep_corpus

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "launch" / "prep.sh"
# What a worker's command line holds that no other process of the run has.
WORKERS = {"portable": "SdkHarness(", "dask": "spawn_main"}
MOST_SECONDS = 900


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos, config file and the corpus made in one process."""
    folder = tmp_path_factory.mktemp("runners")
    videos = prep_corpus.write_videos(folder / "my videos")
    prep_corpus.write_config_file(folder / "config.py")
    build(str(videos), str(folder / "one process"), prep_corpus.config())
    return folder


def _command(folder: pathlib.Path, runner: str, data: str) -> list[str]:
    command = ["bash", str(SCRIPT), runner, f"--config={folder / 'config.py'}"]
    return [*command, f"--videos={folder / 'my videos'}", f"--data={folder / data}", "--workers=2"]


@pytest.fixture(params=sorted(WORKERS))
def runner(request):
    if request.param == "dask":
        pytest.importorskip("distributed")
    if pathlib.Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("launch/prep.sh uses .venv, and these tests run elsewhere")
    return request.param


@pytest.mark.slow
def test_every_engine_gives_the_same_bytes(folder, runner):
    done = subprocess.run(
        _command(folder, runner, runner), capture_output=True, text=True, timeout=MOST_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert prep_corpus.contents(folder / runner) == prep_corpus.contents(folder / "one process")


def _descendants(pid: int) -> list[int]:
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [pid]
    for one in found:  # grows while it is walked
        found.extend(child for child, parent in parents.items() if parent == one)
    return found[1:]


def _kill_a_worker(pid: int, mark: str) -> bool:
    for child in _descendants(pid):
        try:
            command = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if mark in command:
            os.kill(child, signal.SIGKILL)
            return True
    return False


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(folder, runner):
    """Dask goes on by itself; where the engine gives up, the same command resumes."""
    data = f"{runner} killed"
    with open(folder / "log", "w", encoding="utf-8") as log:
        run = subprocess.Popen(_command(folder, runner, data), stdout=log, stderr=log)
        deadline = time.monotonic() + MOST_SECONDS
        killed = False
        while not killed and run.poll() is None and time.monotonic() < deadline:
            if list((folder / data / "work").glob("*.vqa_videos.array_record.*.tmp")):
                killed = _kill_a_worker(run.pid, WORKERS[runner])
            time.sleep(0.02)
        assert killed, (folder / "log").read_text()
        run.wait(timeout=MOST_SECONDS)
    if run.returncode:
        assert runner != "dask", (folder / "log").read_text()
        subprocess.run(_command(folder, runner, data), check=True, timeout=MOST_SECONDS)
    assert prep_corpus.contents(folder / data) == prep_corpus.contents(folder / "one process")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["slurm"], "unknown runner"),
        (["local", "--videos=a", "--data=b"], "--config, --videos and --data are needed"),
        (["flink", "--config=c", "--videos=a", "--data=b"], "--flink_master"),
        (["dask", "--config=c", "--videos=a", "--data=b", "--workers=x"], "not a number"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    done = subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and words in done.stderr and not done.stdout


def test_dry_run_prints_the_command(tmp_path):
    command = ["bash", SCRIPT, "dask", "--config=c.py:1", "--videos=gs://b/list.parquet"]
    command += ["--data=my corpus", "--workers=3", "--dry-run", "--", "--config.prep.seed=7"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    words = done.stdout.split()
    assert {"--config=c.py:1", "--videos=gs://b/list.parquet"} <= set(words)
    assert f"--data={tmp_path}/my\\ corpus" in done.stdout
    beam = words.index("--")  # what follows is Beam's
    assert words.index("--config.prep.seed=7") < beam < words.index("--dask_npartitions=192")
    assert not list(tmp_path.iterdir())
