"""Worker processes that never outlive the process that they work for."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading


def pool(processes: int) -> concurrent.futures.ProcessPoolExecutor:
    """A pool of spawned processes; what follows a kill of this process ends them too.

    Spawned, not forked: the caller may have started threads. Ctrl-C is the caller's to handle.
    """
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(processes, spawn, begin)


def begin() -> None:
    """What a worker process does first: it leaves Ctrl-C to its parent, and will end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)  # nobody is left to be told anything
