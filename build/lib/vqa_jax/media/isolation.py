"""Runs work on untrusted files in a child process that a time and a memory limit can end.

A decoder may hang, fault or allocate without end on a file made by accident or on purpose. The
child is started once and takes one file after the other, so isolation costs a pipe, not a process
a file; it is ended and begun again only where a file breaks it.

On Linux the parent watches the child's memory and the kernel ends the child with its parent. On
macOS, which has neither /proc nor a signal that would do, the child watches itself in a thread: a
decoder that hangs without giving way to other threads then outlives a killed parent.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe
from typing import Any

from absl import logging

from vqa_jax.errors import VqaError
from vqa_jax.media.container import MediaError
from vqa_jax.media.isolated import MB, OUT_OF_MEMORY, POLL_SECONDS
from vqa_jax.settings import DecodeLimits

_START_SECONDS = 300.0  # imports, on a busy machine
_LINUX = sys.platform == "linux"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_ONE_THREAD = dict.fromkeys(_THREADS, "1")
# glibc gives frames back to the system, and takes as long to get them again as to work on them.
_KEPT_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


class LimitError(MediaError):
    """A file that took too long, needed too much memory, or ended its process (stage "limit")."""


class ChildStartError(VqaError, RuntimeError):
    """The child process did not start: the installation is at fault, not a file."""


class Isolated:
    """One child process and the limits of each call. Not for two threads at once.

    The child dies with this process, however that ends, and when the object is closed.
    """

    def __init__(self, limits: DecodeLimits):
        self._limits = limits
        self._most_memory = limits.memory_mb * MB or math.inf  # bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._owner = os.getpid()  # a fork of this process must not end the child
        self._pipe: Connection | None = None
        self._lifeline = -1

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def call(self, path: str, fn: Callable[..., Any], *args: Any) -> Any:
        """The value of `fn(*args)`, else as `run`."""
        (value,) = self._results(path, fn, args, each=False)
        return value

    def run(self, path: str, fn: Callable[..., Any], *args: Any) -> Iterator[Any]:
        """Yields the items of the iterable `fn(*args)` as the child makes them.

        Time that the caller spends between two items does not count.

        Args:
          path: the file that is worked on, for messages.
          fn: function of a module (no lambda, nothing nested): the child imports it.
          *args: arguments; they and the items must be picklable.

        Raises:
          LimitError: a limit is exceeded or the process ended; items made before have been
            yielded, and the next call finds a fresh child.
          VqaError: as `fn` raised it, the child's traceback added as a note; whatever else it
            raised is a `MediaError` with the exception's name.
        """
        yield from self._results(path, fn, args, each=True)

    def close(self) -> None:
        """Ends the child, at work or not. A later call starts another."""
        if self._process is None:
            return
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._pipe.close()
        os.close(self._lifeline)
        self._process = None

    def kill(self) -> None:
        """Ends the child for another thread that waits for it, which is told a LimitError."""
        if (process := self._process) is not None:
            process.kill()
            process.wait()  # whoever is lent it next must find it gone

    def _results(
        self, path: str, fn: Callable[..., Any], args: tuple[Any, ...], each: bool
    ) -> Iterator[Any]:
        if self._process is not None and self._process.poll() is not None:
            self.close()  # ended while idle: no fault of this file
        self.start()
        self._wait_until_ready(path)
        finished = False
        try:
            self._pipe.send((_module_of(fn), fn.__qualname__, args, each))
            left = self._limits.seconds or math.inf
            while True:
                began = time.monotonic()
                kind, value = self._receive(path, left)
                left -= time.monotonic() - began
                if kind == "item":
                    yield value
                    continue
                finished = True
                if kind == "error":
                    raise _typed(path, value)
                break
        finally:
            # Where the caller stopped early, the child still works on what nobody wants. A child
            # that has grown is renewed, lest the next file pay for it.
            if not finished or self._memory() > self._most_memory / 2:
                self.close()

    def _receive(self, path: str, seconds: float) -> tuple[str, Any]:
        """The child's next message within the limits; what it has sent comes before its end."""
        until = time.monotonic() + seconds
        exceeded = None
        try:
            while True:
                if exceeded is None and self._memory() > self._most_memory:
                    exceeded = _memory_reason(self._limits)
                    self._process.kill()
                if self._pipe.poll(POLL_SECONDS):
                    kind, value = self._pipe.recv()
                    break
                if exceeded is None and time.monotonic() > until:
                    exceeded = _time_reason(self._limits)
                    self._process.kill()
        except (EOFError, OSError) as error:  # the pipe's end, perhaps in the middle of a message
            reason = exceeded or _end_reason(self._process.wait(), self._limits)
            raise LimitError(path, "limit", reason) from error
        if kind == "memory":
            raise LimitError(path, "limit", _memory_reason(self._limits))
        return kind, value

    def _memory(self) -> int:
        """Resident bytes of the child; 0 once it is gone, and where it watches itself."""
        if not _LINUX:
            return 0
        try:
            with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as f:
                return int(f.read().split()[1]) * resource.getpagesize()
        except (FileNotFoundError, ProcessLookupError):
            return 0

    def start(self) -> None:
        """Starts the child, if there is none, and does not wait for it."""
        if self._process is not None:
            return
        self._is_ready = False
        self._pipe, theirs = Pipe()
        watched, self._lifeline = os.pipe()
        # Not multiprocessing.Process: fork is unsafe beside Beam's threads, and the other start
        # methods import the main program, Beam and all, into every child.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            "from vqa_jax.media import isolated\n"
            f"isolated.serve({theirs.fileno()}, {watched}, {self._limits.memory_mb}, {_LINUX})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), watched),
            env=os.environ | _ONE_THREAD | _KEPT_HEAP,
        )
        theirs.close()
        os.close(watched)

    def _wait_until_ready(self, path: str) -> None:
        if self._is_ready:
            return
        try:
            if not self._pipe.poll(_START_SECONDS):
                raise ChildStartError(f"no sign of life for {_START_SECONDS:g} s")
            self._pipe.recv()
            self._is_ready = True
        except (EOFError, ConnectionError, ChildStartError) as error:
            code = 0 if isinstance(error, ChildStartError) else self._process.wait()
            self.close()
            if code < 0:  # by a signal: no fault of the installation
                raise LimitError(path, "limit", _end_reason(code, self._limits)) from error
            raise ChildStartError(
                "the process that decodes files did not start: see its message above"
            ) from error


def _typed(path: str, error: Exception) -> Exception:
    """What a call's exception is for the caller: ours as it is, others a `MediaError`."""
    if isinstance(error, VqaError):
        return error
    logging.warning("%s: %r\n%s", path, error, "\n".join(error.__notes__))
    found = MediaError(path, "decode", f"cannot be decoded ({type(error).__name__}: {error})")
    found.__cause__ = error
    return found


# --- children of this process -------------------------------------------------------------------

_idle: list[Isolated] = []
_lock = threading.Lock()
_thread = threading.local()  # .leash: that of the thread
_GIVEN_UP = "was given up"


class Leash:
    """Ends from any thread what decodes for one caller: `with leash:` in the caller's thread.

    Once ended, calls at work and all that follow are a LimitError.
    """

    def __init__(self) -> None:
        self.is_ended = False
        self._lent: list[Isolated] = []
        self._outer: Leash | None = None

    def __enter__(self) -> Leash:
        self._outer = getattr(_thread, "leash", None)
        _thread.leash = self
        return self

    def __exit__(self, *error: object) -> None:
        _thread.leash = self._outer

    def end(self) -> None:
        """Ends the children that are lent, and lends no more."""
        with _lock:  # none of them is another caller's meanwhile
            self.is_ended = True
            for child in self._lent:
                child.kill()


@contextlib.contextmanager
def borrowed(limits: DecodeLimits) -> Iterator[Isolated]:
    """A child that nobody else uses meanwhile: one that is idle, else a new one.

    There are as many as are used at once; those of another memory limit, which is the child's own,
    are ended.

    Raises:
      LimitError: the thread's leash is ended.
    """
    leash = getattr(_thread, "leash", None)
    with _lock:
        if leash is not None and leash.is_ended:
            raise LimitError("", "limit", _GIVEN_UP)
        others = [c for c in _idle if c._limits.memory_mb != limits.memory_mb]
        _idle[:] = [c for c in _idle if c._limits.memory_mb == limits.memory_mb]
        child = _idle.pop() if _idle else Isolated(limits)
        child._limits = limits
        if leash is not None:
            leash._lent.append(child)
    for other in others:
        other.close()
    try:
        yield child
    except (LimitError, ChildStartError) as error:
        if leash is not None and leash.is_ended:
            raise LimitError(getattr(error, "path", ""), "limit", _GIVEN_UP) from error
        raise
    finally:
        with _lock:
            if leash is not None:
                leash._lent.remove(child)
            _idle.append(child)


def call(limits: DecodeLimits, path: str, fn: Callable[..., Any], *args: Any) -> Any:
    """As `Isolated.call`, in a child of this process."""
    with borrowed(limits) as child:
        return child.call(path, fn, *args)


def run(limits: DecodeLimits, path: str, fn: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """As `Isolated.run`, in a child of this process."""
    with borrowed(limits) as child:
        yield from child.run(path, fn, *args)


def start(limits: DecodeLimits) -> None:
    """Starts a child for calls that will come, and does not wait for it."""
    with borrowed(limits) as child:
        child.start()


def _forget() -> None:
    """In a fork: the children are its parent's, and the lock may be held by a thread of its."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _thread.leash = None


os.register_at_fork(after_in_child=_forget)


def _time_reason(limits: DecodeLimits) -> str:
    name = f" ({limits.names[0]})" if limits.names else ""
    return f"took longer than {limits.seconds:g} s{name}"


def _memory_reason(limits: DecodeLimits) -> str:
    name = f" ({limits.names[1]})" if limits.names else ""
    return f"needed more than {limits.memory_mb} MB of memory{name}"


def _end_reason(code: int, limits: DecodeLimits) -> str:
    if code == OUT_OF_MEMORY:
        return _memory_reason(limits)
    if code == -signal.SIGKILL:
        return "its decoder was killed from outside: the machine may be out of memory"
    how = signal.strsignal(-code) if code < 0 else f"exit status {code}"
    return f"broke the process that decoded it ({how}): leave it out, or encode it again"


def _module_of(fn: Callable[..., Any]) -> str:
    """Module to import for `fn`; a program run by `python -m` is known by its own name there."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if fn.__module__ == "__main__" and spec else fn.__module__
