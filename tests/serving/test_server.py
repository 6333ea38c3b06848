"""Start and stop of the service."""

import concurrent.futures
import signal
import socket
import subprocess
import sys
import time
import types

import httpx2
import pytest

from tests.fixtures import noise_video
from vqa_jax.media import view as view_lib
from vqa_jax.serving import server
from vqa_jax.serving.config import ServeConfig
from vqa_jax.settings import DecodeLimits


def _student(view, seen):
    class Student:
        judge, batch_size, score_seen, flaw_head = None, 4, print, None
        spec = types.SimpleNamespace(preprocess=types.SimpleNamespace(view=view), num_frames=10)

        def score(self, frames, fps):
            seen.append((len(view_lib.key_frame_indices(len(frames), fps)), *frames.shape[1:]))

    return Student()


def test_every_shape_of_frames_is_made_ready(monkeypatch):
    seen, ran = [], []
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self: ran.append(self.config))
    config = ServeConfig(DecodeLimits(seconds=9), work_seconds=33.2)
    server.run(_student("fit", seen), config, "::1", 81)
    assert sorted(seen) == sorted((1, h, w, 3) for h, w in server._SIZES)
    (config,) = ran
    assert (config.host, config.port, config.timeout_graceful_shutdown) == ("::1", 81, 34)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.parametrize(("view", "numbers"), [("squash", [10, 5, 2, 1]), ("crops", [1])])
def test_every_number_of_frames_is_made_ready_where_it_counts(view, numbers):
    """The engine pads frames to the student's most, halved: ten, five, two or one of them."""
    seen = []
    server.warm(_student(view, seen))
    assert [found[0] for found in seen] == numbers
    assert len({found[1:] for found in seen}) == 1


_PROGRAM = """
import sys
from vqa_jax.media import isolation, view
from tests.fixtures import isolated_work, tiny_corpus
from vqa_jax import loading
from vqa_jax.motion import extractor
from vqa_jax.serving import server
from vqa_jax.serving.config import ServeConfig
from vqa_jax.settings import DecodeLimits
extractor.load_extractor = tiny_corpus.StubExtractor
server.warm = lambda student: print("warm", flush=True)
original = isolation.Isolated.call
def call(child, path, fn, *args):
    if fn is view.video_input:
        original(child, path, isolated_work.rest, 2.0)
        print("at work", flush=True)
    return original(child, path, fn, *args)
isolation.Isolated.call = call
student = loading.load(sys.argv[1])
server.run(student, ServeConfig(DecodeLimits(seconds=60)), "127.0.0.1", int(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_stop_finishes_what_is_inside_and_is_no_failure(known, tmp_path):
    video = noise_video.write(tmp_path / "a.mp4", noise_video.noise(2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _PROGRAM, known, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout.readline() == "warm\n"
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            asked = pool.submit(_post, port, video)
            assert service.stdout.readline() == "at work\n"
            service.send_signal(signal.SIGTERM)
            assert "score" in asked.result()["result"]
        assert service.wait(60) == 0
    with pytest.raises(ConnectionError):
        _post(port, video)


def _post(port, path):
    """The answer to an upload; asked again until the service listens."""
    with open(path, "rb") as file:
        data = file.read()
    for turn in range(100):
        try:
            address = f"http://127.0.0.1:{port}/v1/score"
            return httpx2.post(address, files={"video": ("a.mp4", data)}, timeout=60).json()
        except httpx2.ConnectError as error:
            if turn == 99:
                raise ConnectionError from error
            time.sleep(0.1)
    raise AssertionError
