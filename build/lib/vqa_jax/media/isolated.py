"""The child's half of `isolation`: takes calls from a pipe, and ends with its parent."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import resource
import select
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

POLL_SECONDS = 0.05  # how often memory is looked at: a gigabyte takes longer to fill
MB = 1 << 20
OUT_OF_MEMORY = 77  # exit status of a child that watches itself


def serve(pipe_fd: int, lifeline: int, memory_mb: int, linux: bool) -> None:
    """Takes calls from the pipe until the parent goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a fault is reported, not dumped
    if linux:
        # The kernel sends SIGIO, whose default is to end the process, when the last writer of this
        # pipe closes: also in a hung decoder. (The parent-death signal would follow the thread that
        # started us, and Beam's come and go.)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        if memory_mb:
            _limit_allocation(memory_mb)
    else:
        threading.Thread(target=_watch_self, args=(lifeline, memory_mb), daemon=True).start()
    with Connection(pipe_fd) as pipe, contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send(("ready", None))
        while True:
            module, name, args, each = pipe.recv()
            pipe.send(_answer(pipe, module, name, args, each))


def _watch_self(lifeline: int, memory_mb: int) -> None:
    """Ends this process when its parent goes or its memory has ever been above the limit."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, bytes on macOS
    while not select.select([lifeline], [], [], POLL_SECONDS)[0]:  # readable: its end
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        if memory_mb and peak > memory_mb * MB:
            os._exit(OUT_OF_MEMORY)
    os.kill(os.getpid(), signal.SIGKILL)


def _limit_allocation(memory_mb: int) -> None:
    """The net below the parent's watch: one huge allocation fails at once.

    Twice the limit, since FFmpeg takes a failed allocation for a damaged frame and goes on.
    """
    with open("/proc/self/statm", encoding="ascii") as f:
        data = int(f.read().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data + 2 * memory_mb * MB, hard))


def _answer(
    pipe: Connection, module: str, name: str, args: tuple[Any, ...], each: bool
) -> tuple[str, Any]:
    """Sends the items of one call and returns the message that ends it."""
    try:
        fn = importlib.import_module(module)
        for part in name.split("."):
            fn = getattr(fn, part)
        if not each:
            pipe.send(("item", fn(*args)))
            return "end", None
        for item in fn(*args):
            pipe.send(("item", item))
        return "end", None
    except MemoryError:
        return "memory", None
    except Exception as error:  # any: it is raised again in the parent
        trace = "In the isolated process:\n" + traceback.format_exc()
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
        except Exception:  # an exception's own __init__ may ask for anything
            error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note(trace)
        return "error", error
