"""Real processes that train together: same losses as one; told to end; one of them killed."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.fixtures import fake_devices, tiny_corpus
from tests.fixtures.tolerances import TOLERANCES
from vqa_jax.training import goodput
from vqa_jax.weights import bundle

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICES = 8
TIMEOUT = 20  # seconds without a sign of life

PROGRAM = """
import collections
import dataclasses
import sys

import jax

from tests.fixtures import tiny_corpus
from vqa_jax.devices import hosts
from vqa_jax.planning.shapes import shard_bytes
from vqa_jax.training import start, train
from vqa_jax.training import step as step_lib

coordinator, processes, process, data, workdir, steps, every, mesh, parts, *rest = sys.argv[1:]
init_from, copies = rest
if int(processes) > 1:
    hosts.connect(coordinator, int(processes), int(process), {timeout})
config = tiny_corpus.train_config(
    *(int(steps),),
    **dict(checkpoint_every=int(every), mesh=tuple(map(int, mesh.split(",")))),
    **dict(accumulate=int(parts), local_copies_every=2),
    local_copies=copies and f"{{copies}}/{{process}}",
)
if init_from:
    rules = (("vision/*", 1.0), ("*_projector/*", 1.0))
    config = dataclasses.replace(config, init_from=init_from, trainable=rules)
    state_of = start.Start.state

    def state(begun, *sources):
        made = state_of(begun, *sources)
        held = collections.Counter()
        for leaf in jax.tree.leaves(made):
            for shard in leaf.addressable_shards:
                held[shard.device] += shard.data.nbytes
        share = shard_bytes(step_lib.abstract_state(begun.student, begun.step_config, begun.mesh))
        assert set(held.values()) == {{share}} and len(held) == jax.local_device_count(), held
        return made

    start.Start.state = state
try:
    train.train(config, tiny_corpus.student_spec(), data, workdir)
except hosts.HostsError as error:
    sys.exit(f"HostsError: {{error}}")
"""


def _start(
    data, workdir, processes, steps, every=50, mesh="2,4,1", parts=1, init_from="", copies=""
):
    """Processes that share fake devices, eight where rows are shared, a batch in `parts`."""
    devices = 1 if mesh == "1,1,1" else DEVICES
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    environment = {
        **os.environ,
        "XLA_FLAGS": fake_devices.xla_flags(os.environ.get("XLA_FLAGS", ""), devices // processes),
        "PYTHONPATH": str(ROOT),
    }
    rest = [str(x) for x in (data, workdir, steps, every, mesh, parts, init_from, copies)]
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(timeout=TIMEOUT)]
            + [coordinator, str(processes), str(process), *rest],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(processes)
    ]


def _ended(running, seconds=240):
    """Exit statuses and what was written; none may be left running."""
    try:
        errors = [process.communicate(timeout=seconds)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    return [process.returncode for process in running], errors


def _wait_for_steps(workdir, steps, running):
    path = pathlib.Path(workdir, "metrics.jsonl")
    deadline = time.monotonic() + 240
    while not path.exists() or len(path.read_text().splitlines()) < steps:
        assert all(process.poll() is None for process in running), _ended(running)
        assert time.monotonic() < deadline, _ended(running)
        time.sleep(0.05)


def _agree(got, wanted):
    assert got.keys() == wanted.keys()
    np.testing.assert_allclose(
        [got[step] for step in wanted], list(wanted.values()), **TOLERANCES["sharded_loss"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "mesh"), [(2, "2,4,1"), (2, "8,1,1"), (4, "2,2,2")])
def test_processes_train_as_one(corpus, tmp_path, processes, mesh):
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder, count in ((alone, 1), (together, processes)):
        statuses, errors = _ended(_start(corpus, folder, count, steps=5, mesh=mesh))
        assert statuses == [0] * count, errors
    _agree(tiny_corpus.losses(str(together)), tiny_corpus.losses(str(alone)))
    assert os.listdir(together / "student") == os.listdir(alone / "student")


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "mesh"), [(2, "1,8,1"), (4, "2,2,2")])
def test_processes_start_from_a_student_each_with_its_shards(
    corpus, known, tmp_path, processes, mesh
):
    """Killed between two checkpoints, which hold no frozen weights, and started on one process."""
    run = {"steps": 9, "every": 3, "mesh": mesh, "init_from": known}
    statuses, errors = _ended(_start(corpus, tmp_path / "alone", 1, **run))
    assert statuses == [0], errors
    running = _start(corpus, tmp_path / "together", processes, **run)
    _wait_for_steps(tmp_path / "together", 5, running)
    for process in running:
        process.kill()
    _ended(running)
    for count in (processes, 1):  # the second one finds it finished, or ends it
        statuses, errors = _ended(_start(corpus, tmp_path / "together", count, **run))
        assert statuses == [0] * count, errors
    alone, together = (tiny_corpus.losses(str(tmp_path / name)) for name in ("alone", "together"))
    _agree(together, alone)
    one, other = (
        load_file(tmp_path / name / "student" / bundle.WEIGHTS_FILE)
        for name in ("alone", "together")
    )
    assert one.keys() == other.keys()
    for name in one:  # Adam divides by the root of tiny second moments
        np.testing.assert_allclose(other[name], one[name], atol=2e-3, err_msg=name)


@pytest.mark.slow
def test_copies_in_memory_outlive_a_machine(corpus, tmp_path):
    """No checkpoint is due when both are killed, and one comes back with nothing."""
    run = {"steps": 16, "mesh": "2,4,1", "copies": tmp_path / "memory"}
    statuses, errors = _ended(_start(corpus, tmp_path / "alone", 1, steps=16))
    assert statuses == [0], errors
    running = _start(corpus, tmp_path / "together", 2, **run)
    _wait_for_steps(tmp_path / "together", 8, running)
    for process in running:
        process.kill()
    _ended(running)
    shutil.rmtree(tmp_path / "memory" / "0")
    statuses, errors = _ended(_start(corpus, tmp_path / "together", 2, **run))
    assert statuses == [0, 0], errors
    starts = {row["first"] for row in goodput.read(str(tmp_path / "together" / goodput.FILE))}
    assert len(starts) == 2 and max(starts) >= 4, starts
    alone, together = (tiny_corpus.losses(str(tmp_path / name)) for name in ("alone", "together"))
    _agree(together, alone)
    assert not any(files for _, _, files in os.walk(tmp_path / "memory"))  # it is finished


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_told_to_end_all_save_the_same_step_and_the_rerun_goes_on(corpus, tmp_path, processes):
    steps = 60
    running = _start(corpus, tmp_path / "told", processes, steps)
    _wait_for_steps(tmp_path / "told", 5, running)
    running[-1].send_signal(signal.SIGTERM)
    statuses, errors = _ended(running)
    assert statuses == [0] * processes, errors
    reached = max(tiny_corpus.losses(str(tmp_path / "told")))
    assert 5 <= reached < steps
    assert os.path.isdir(tmp_path / "told" / "checkpoints" / str(reached))
    for folder in ("told", "quiet"):
        statuses, errors = _ended(_start(corpus, tmp_path / folder, processes, steps))
        assert statuses == [0] * processes, errors
    wanted = tiny_corpus.losses(str(tmp_path / "quiet"))
    assert tiny_corpus.losses(str(tmp_path / "told")) == wanted


@pytest.mark.slow
def test_checkpoint_of_two_processes_resumes_on_four_and_on_one(corpus, tmp_path):
    steps = 60
    for folder, *counts in (("alone", 1), ("moved", 2, 4, 1)):
        for number, processes in enumerate(counts):
            running = _start(corpus, tmp_path / folder, processes, steps)
            if number < len(counts) - 1:
                _wait_for_steps(tmp_path / folder, 5 + 10 * number, running)
                running[0].send_signal(signal.SIGTERM)
            statuses, errors = _ended(running)
            assert statuses == [0] * processes, errors
            finished = (tmp_path / folder / "student").exists()
            assert finished == (number == len(counts) - 1)
    alone, moved = (tiny_corpus.losses(str(tmp_path / name)) for name in ("alone", "moved"))
    _agree(moved, alone)


@pytest.mark.slow
def test_killed_at_a_random_step_it_resumes_to_the_bit(corpus, tmp_path):
    """Kill -9 in 20 trials; every loss of every one is that of the undisturbed run.

    Each batch is computed in two parts.
    """
    run = {"processes": 1, "steps": 24, "every": 5, "mesh": "1,1,1", "parts": 2}
    statuses, errors = _ended(_start(corpus, tmp_path / "quiet", **run))
    assert statuses == [0], errors
    wanted = tiny_corpus.losses(str(tmp_path / "quiet"))
    rng = np.random.default_rng(0)
    for trial, step in enumerate(rng.integers(1, run["steps"], 20)):
        folder = tmp_path / str(trial)
        running = _start(corpus, folder, **run)
        _wait_for_steps(folder, step, running)
        time.sleep(rng.uniform(0, 0.1))
        running[0].kill()
        assert _ended(running)[0] == [-signal.SIGKILL]
        assert not (folder / "student").exists()
        statuses, errors = _ended(_start(corpus, folder, **run))
        assert statuses == [0], errors
        assert tiny_corpus.losses(str(folder)) == wanted, f"killed after step {step}"


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_lost_process_ends_the_other_with_a_clear_error(corpus, tmp_path, victim):
    running = _start(corpus, tmp_path, 2, steps=100_000)
    _wait_for_steps(tmp_path, 5, running)
    running[victim].kill()
    statuses, errors = _ended(running, seconds=6 * TIMEOUT)
    assert statuses[victim] == -signal.SIGKILL
    other = 1 - victim
    assert statuses[other] not in (0, None)
    said = errors[other]
    assert "another process was lost" in said or "another task died" in said, said


def test_settings_that_do_not_fit_are_named():
    from vqa_jax.devices import hosts

    for arguments in ((None, 2, 0), ("auto", 2, None), ("localhost:1", 2, 2), ("localhost:1",)):
        with pytest.raises(hosts.HostsError, match="--coordinator"):
            hosts.connect(*arguments)
    with pytest.raises(hosts.HostsError, match="start all processes"):
        hosts.connect(hosts.AUTO, timeout=1)
