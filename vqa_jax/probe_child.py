"""Examines files in a process of its own: a decoder that hangs or dies on one takes nothing along.

`python -m vqa_jax.probe_child` reads one JSON string (a path) a line and answers with one JSON
object a line; `Prober` is the other end.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
from typing import Any

from vqa_jax.media import MediaError
from vqa_jax.probe import probe

_START_SECONDS = 300.0  # imports, on a busy machine
_FIELDS = ("width", "height", "fps", "num_frames", "duration", "codec")


class Prober:
    """One child process; not for two threads at once. The child ends with this object."""

    def __init__(self, seconds: float):
        """`seconds`: how long one file may take."""
        self._seconds = seconds
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self, path: str) -> dict[str, Any]:
        """What `probe` says of a file, or dict(reason=...)."""
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = _start()
        self._child.stdin.write(json.dumps(path).encode() + b"\n")
        self._child.stdin.flush()
        if not select.select([self._child.stdout], [], [], self._seconds)[0]:
            self.close()
            return {"reason": f"not read within {self._seconds:g} s"}
        line = self._child.stdout.readline()
        if not line:
            self.close()
            return {"reason": "the decoder crashed"}
        return json.loads(line)

    def close(self) -> None:
        """Ends the child; a later call starts another."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def _start() -> subprocess.Popen[bytes]:
    package = str(pathlib.Path(__file__).parents[1])
    search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    child = subprocess.Popen(
        [sys.executable, "-m", "vqa_jax.probe_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders' remarks; what counts is in the answer
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
    )
    ready = select.select([child.stdout], [], [], _START_SECONDS)[0] and child.stdout.readline()
    if not ready:
        child.kill()
        child.communicate()
        raise RuntimeError("the process that examines files does not start: is vqa_jax installed?")
    return child


def examine(path: str) -> dict[str, Any]:
    """A file's size, rate and length, or dict(reason=...)."""
    try:
        info = probe(path)
    except MediaError as error:
        return {"reason": error.reason}
    except OSError as error:
        return {"reason": error.strerror or str(error)}
    return {name: getattr(info, name) for name in _FIELDS}


def _serve() -> None:
    # Libraries may write to standard output; answers go to a copy that only this function knows.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    answers.write(b"ready\n")
    answers.flush()
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            answers.write(json.dumps(examine(json.loads(line))).encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    _serve()
