"""Two real processes hold one student together and score as one device does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.fixtures import fake_devices, tiny_corpus
from tests.fixtures.tolerances import TOLERANCES

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICES = 8

PROGRAM = """
import collections
import json
import sys
from unittest import mock

import jax

from tests.fixtures import tiny_corpus
from vqa_jax import loading
from vqa_jax.devices import hosts, sharding
from vqa_jax.media.container import MediaError
from vqa_jax.motion import extractor
from vqa_jax.planning.shapes import shard_bytes
from vqa_jax.scoring.reading import Reader
from vqa_jax.weights import stream

coordinator, processes, process, student, mesh, dtype, *paths = sys.argv[1:]
if int(processes) > 1:
    hosts.connect(coordinator, int(processes), int(process), 60)


def held():
    sizes = {}
    for array in jax.live_arrays():
        for shard in array.addressable_shards:
            sizes[shard.device, shard.data.unsafe_buffer_pointer()] = shard.data.nbytes
    found = collections.Counter()
    for (device, _), size in sizes.items():
        found[device] += size
    return found


before, most, largest, load = held(), collections.Counter(), 0, stream.load_array


def spied(checkpoint, rule, leaf):
    global largest
    largest = max(largest, shard_bytes(leaf))
    array = load(checkpoint, rule, leaf)
    for device, size in held().items():
        most[device] = max(most[device], size - before[device])
    return array


def seen(self, video, *rest):
    if "torn" in str(video) and process == "1":
        raise MediaError(video, "decode", "only this process cannot read it")
    return read(self, video, *rest)


sizes, read = tuple(map(int, mesh.split(","))), Reader.seen
with (
    mock.patch.object(extractor, "load_extractor", tiny_corpus.StubExtractor),
    mock.patch.object(stream, "load_array", spied),
    mock.patch.object(Reader, "seen", seen),
):
    devices = sharding.make_mesh(sizes) if processes != "0" else None
    loaded = loading.load(student, mesh=devices, dtype=dtype or None)
    if devices is not None:
        part = shard_bytes(loaded._student.placed(loaded._run))
        assert set(most) == set(jax.local_devices()), most
        assert max(most.values()) <= part + largest, (most, part, largest)
        for leaf, like in zip(
            *map(jax.tree.leaves, (loaded._params, loaded._student.placed(loaded._run)))
        ):
            assert leaf.sharding == like.sharding
    results = loaded.score_many(paths)
print("SCORES", json.dumps([[result.score, result.error] for result in results]))
"""


def _scores(student, paths, processes, mesh="1,1,1", dtype=""):
    """(score, reason) of each video, as every process tells them; 0 processes: one device."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        coordinator = f"localhost:{probe.getsockname()[1]}"
    share = DEVICES // max(processes, 1)
    environment = {
        **os.environ,
        "XLA_FLAGS": fake_devices.xla_flags(os.environ.get("XLA_FLAGS", ""), share),
        "PYTHONPATH": str(ROOT),
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, coordinator, str(processes), str(process)]
            + [student, mesh, dtype, *paths],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(max(processes, 1))
    ]
    try:
        told = [process.communicate(timeout=400) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * len(running), told
    return [json.loads(out.split("SCORES ")[1]) for out, _ in told]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "dtype"), [("2,2,2", ""), ("1,8,1", ""), ("4,1,2", ""), ("2,2,2", "int8")]
)
def test_two_processes_score_as_one_device(known, tmp_path, mesh, dtype):
    """Also a video that one of them alone cannot read, which has a reason on both."""
    names = ["0", "torn", "1", "2"]
    paths = [
        tiny_corpus.write_video(str(tmp_path / f"{name}.mp4"), k % 3)
        for k, name in enumerate(names)
    ]
    ((alone),) = _scores(known, paths, 0, dtype=dtype)
    together = _scores(known, paths, 2, mesh, dtype)
    for found in together:
        assert [reason is None for _, reason in found] == [True, False, True, True]
        wanted = [score for k, (score, _) in enumerate(alone) if k != 1]
        scores = [score for k, (score, _) in enumerate(found) if k != 1]
        kind = "int8_score" if dtype else "score_on_a_mesh"
        np.testing.assert_allclose(scores, wanted, **TOLERANCES[kind])
    assert [score for score, _ in together[0]] == [score for score, _ in together[1]]
