"""A stage as one command: its steps, what they say that they cost, and a run to its end."""

import csv
import hashlib
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import time

import pytest

from tests.fixtures import broken_files

ROOT = pathlib.Path(__file__).resolve().parents[2]
# As a person's shell has it: the tests' own devices are eight pretended ones.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
FIRST = ["build", "motion", "pairs", "verify", "train_1", "anchors_1", "evaluate_1"]
# Six small clips, one simulator, four steps of training on tokens.
CONFIG = """
from configs import quickstart

def get_config(iteration="1"):
    config = quickstart.get_config(iteration)
    config.prep.simulators = ("gaussian_noise",)
    config.prep.segments_per_source = 1
    config.prep.deduplicate = "off"
    config.prep.num_buckets = 3
    config.prep.heldout_fraction = 0.34
    config.severity_simulators = ("gaussian_noise",)
    config.pairs.simulator_per_label = 6
    config.pairs.teachers_per_label = 0
    config.pairs.teachers_on_sources = 3
    config.pairs.across = 0
    config.pairs.teachers_order = 0.0
    config.relabel.pool_segments = 0
    config.train.optim.total_steps = 4
    config.train.optim.warmup_steps = 1
    config.train.input.batch_size = 4
    config.train.input.mix = {"simulator": 0.7, "teachers": 0.2, "student": 0.1}
    return config
"""


def _stage(*arguments, **more):
    return subprocess.run(
        ["bash", str(ROOT / "launch" / "stage.sh"), *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        **more,
    )


def _tables(text):
    """Rows of each table of costs: step -> its other cells."""
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    rows = [[[c.strip() for c in r.split("|")[1:-1]] for r in b.splitlines()[2:]] for b in blocks]
    return [{row[0]: row[1:] for row in block} for block in rows]


def _hours(cell):
    return float(cell.replace(",", "") or 0)


@pytest.fixture(scope="module")
def needs_environment():
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("launch/stage.sh uses .venv, and these tests run elsewhere")


def test_a_dry_run_of_all_stages_says_what_the_papers_amounts_cost(needs_environment, tmp_path):
    done = _stage("1", "2", "3", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())  # nothing was started, nothing written
    tables = _tables(done.stdout)
    total = "all that was measured"
    assert list(tables[0]) == ["metrics", "select", *FIRST, total]
    for number, table in enumerate(tables[1:], 2):
        steps = ("relabel", "train", "anchors", "evaluate")
        assert list(table) == [f"{step}_{number}" for step in steps] + [total]
    assert tables[0]["metrics"][0] == "3,000,000 videos"
    assert tables[0]["build"][0].startswith("285,714 files, ")
    for table in tables:
        sums = [_hours(cell) for cell in table.pop(total)[1:]]
        cells = [[_hours(c.replace("not measured", "")) for c in row[1:]] for row in table.values()]
        assert [sum(column) for column in zip(*cells, strict=True)] == pytest.approx(sums, rel=0.02)
    commands = [shlex.split(line) for line in done.stdout.splitlines() if " -m " in line]
    names = [words[words.index("-m") + 2] for words in commands]
    iteration = ["train", "anchors", "evaluate"]
    first = ["metrics", "select", "build", "motion", "pairs", "verify", *iteration]
    assert names == [*first, *2 * ["relabel", *iteration]]


def test_steps_follow_from_listing_teachers_and_tower(needs_environment, tmp_path):
    for k in range(2):
        broken_files.encode(tmp_path / f"{k}.mp4", broken_files.moving_frames(20, 48, 80))
    asked = ["1", "--dry-run", "--listing", tmp_path, "--data", tmp_path / "c", "--out", tmp_path]
    asked += ["--teachers", "fast_vqa,light_lite0_all", "--skip", "verify,evaluate_1"]
    small = _stage(*asked, "--config", "small").stdout
    (table,) = _tables(small)
    assert {"tokens", "teachers", "votes"} < set(table) and "metrics" not in table
    scored = [line for line in small.splitlines() if "teachers score" in line]
    assert "--teachers fast_vqa --videos" in scored[0]
    assert "--teachers light_lite0_all --data" in scored[1]
    keeping = tmp_path / "keeping.py"  # neural teachers look at records, too, if these keep that
    keeping.write_text(
        "from configs import small\n\ndef get_config():\n    config = small.get_config()\n"
        "    config.prep.teacher_views = ('fast_vqa',)\n    return config\n"
    )
    told = _stage(*asked, "--config", keeping).stdout.replace("\\", "")
    (scored,) = [line for line in told.splitlines() if "teachers score" in line]
    assert "--teachers fast_vqa,light_lite0_all --data" in scored
    pairs = next(line for line in small.splitlines() if "data_prep pairs" in line)
    assert re.findall(r"--scores (\S+)", pairs) == [
        f"{tmp_path}/{name}/scores.parquet" for name in ("teachers", "votes")
    ]
    assert " verify " not in small.split("|\n")[-1] and " evaluate " not in small
    # A view that keeps no picture as people see it: all teachers look at the files.
    published = _stage(*asked).stdout.replace("\\", "")  # as a shell reads it
    assert "--teachers fast_vqa,light_lite0_all --videos" in published
    assert not {"tokens", "votes"} & set(_tables(published)[0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to do"),
        (["1", "--data=d", "--out=o"], "--listing is needed"),
        (["2", "--data=d"], "--out is needed"),
        (["1", "--dry-run", "--target=t", "--listing=l"], "--target needs --num"),
        (["1", "--dry-run", "--data=d", "two"], "not understood: two"),
    ],
)
def test_wrong_arguments_are_named_with_the_way_to_help(arguments, said):
    done = _stage(*arguments)
    assert done.returncode == 1 and said in done.stderr and "--help" in done.stderr


@pytest.mark.slow
def test_a_small_listing_runs_to_the_end_also_after_a_kill(needs_environment, tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(6):
        frames = broken_files.moving_frames(12 + 2 * k, 64, 96)
        broken_files.encode(tmp_path / "in" / f"{k}.mp4", frames)
    config, out, data = tmp_path / "micro.py", tmp_path / "out", tmp_path / "corpus"
    config.write_text(CONFIG)
    asked = ["1", "--config", f"{config}:%", "--listing", tmp_path / "in", "--data", data]
    asked += ["--out", out, "--workers", "1", "--teachers", "light_lite0_all,light_lite0_mid"]
    asked += ["--skip", "anchors_1,evaluate_1"]  # after four steps no student can judge
    command = ["bash", str(ROOT / "launch" / "stage.sh"), *map(str, asked)]
    with open(tmp_path / "killed.txt", "w", encoding="utf-8") as log:
        running = subprocess.Popen(
            command, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True
        )
        while not (data / "motion.json").exists() and running.poll() is None:
            time.sleep(0.05)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert not (data / "pairs_1.json").exists()
    done = _stage(*asked)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    names = [*FIRST[:2], "tokens", "votes", *FIRST[2:5]]
    assert re.findall(r"will cost: (\w+): about", done.stdout) == names
    told = re.findall(r"did cost: (\w+): (\S+) core-hours, (\S+) GB more on disk", done.stdout)
    assert [name for name, _, _ in told] == names
    text = (out / "costs.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))[-len(names) :]
    assert [row["step"] for row in rows] == names and {row["status"] for row in rows} == {"0"}
    for (name, hours, _), row in zip(told, rows, strict=True):
        assert float(hours) == pytest.approx(float(row["cpu_seconds"]) / 3600, rel=0.01), name
    spent = {row["step"]: row for row in rows}
    assert int(spent["pairs"]["bytes"]) > 0 and float(spent["train_1"]["cpu_seconds"]) > 0
    assert (out / "iteration_1" / "student" / "student.json").exists()
    assert json.loads((out / "votes" / "teachers.json").read_text())["failed"] == 0

    whole = _manifests(data)
    again = _stage(*asked)  # all is there
    assert again.returncode == 0, again.stderr[-3000:]
    assert "as it was when it was found intact" in again.stdout
    assert _manifests(data) == whole


def _manifests(data):
    names = ("manifest.json", "motion.json", "tokens.json", "pairs_1.json")
    return {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in names}
