"""Worker processes: they work, and end with a killed parent."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from vqa_jax.jobs import workers

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_PROGRAM = """
import os, time
from vqa_jax.jobs import workers

if __name__ == "__main__":
    with workers.pool(2) as pool:
        pool.submit(time.sleep, 1)
        pids = [pool.submit(os.getpid).result()]
        print(*pids, flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_workers_work():
    with workers.pool(2) as pool:
        assert list(pool.map(abs, [-1, 2, -3])) == [1, 2, 3]


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_killed_parent_takes_its_workers_along(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert pids and all(map(_is_alive, pids))
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(map(_is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_alive, pids))
