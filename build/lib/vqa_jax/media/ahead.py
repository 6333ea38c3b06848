"""Decodes many files ahead of whoever uses them: several children at work, results in order.

Each worker is a thread that waits for a child process of its own (`isolation`), so that decoding
takes as many processors as there are and runs while the device computes. What has been decoded and
not yet been taken is bounded, however many files there are, whatever their size and however slow
the taker is. The threads stay: glibc gives a new thread another part of the heap, which would keep
what its files took.
"""

from __future__ import annotations

import collections
import concurrent.futures
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from vqa_jax.media import isolation
from vqa_jax.media.isolation import Isolated
from vqa_jax.settings import DecodeLimits

_Item, _Found = TypeVar("_Item"), TypeVar("_Found")
_MOST_WORKERS = 16  # a decoder's imports alone take a hundred megabytes
_AGAIN = 0.1  # seconds after which children are ended that had not started
_ROOM = 1 << 27  # bytes that wait to be taken, where that leaves every worker a file

_pool: concurrent.futures.ThreadPoolExecutor | None = None
_lock = threading.Lock()


def workers() -> int:
    """Files that are decoded at once: as many as this process has processors, up to 16."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    return min(os.cpu_count() or 1, _MOST_WORKERS)


def in_order(
    items: Iterable[_Item],
    decode: Callable[[_Item, Isolated], _Found],
    limits: DecodeLimits,
    most: int,
    size: Callable[[_Found], int],
) -> Iterator[tuple[_Item, concurrent.futures.Future[_Found]]]:
    """Yields each item with a future of what `decode` makes of it, in order.

    Close the iterator where it is left early: files at work are then given up at once.

    Args:
      items: may be endless; `most` of them are taken before they are needed.
      decode: called in a thread with an item and a child that nobody else uses meanwhile.
      limits: of each file.
      most: items that are being decoded or wait to be taken; fewer where they are large.
      size: bytes of what an item was decoded to.
    """
    busy: set[Isolated] = set()
    guard = threading.Lock()  # a child that is ended here is not lent to anyone else meanwhile
    ended = threading.Event()

    def one(item: _Item) -> _Found:
        with isolation.borrowed(limits) as child:
            busy.add(child)
            try:
                if ended.is_set():
                    raise concurrent.futures.CancelledError
                return decode(item, child)
            finally:
                with guard:
                    busy.discard(child)

    waiting: collections.deque[tuple[_Item, concurrent.futures.Future[_Found]]]
    waiting = collections.deque()
    typical = 0.0

    def held() -> float:
        """Bytes of what is decoded, and of what will be if it is like that."""
        nonlocal typical
        done = [future for _, future in waiting if future.done()]
        sizes = [size(future.result()) for future in done if future.exception() is None]
        typical = sum(sizes) / len(sizes) if sizes else typical
        return sum(sizes) + typical * (len(waiting) - len(done))

    pool, least = _threads(), workers()
    try:
        for item in items:
            waiting.append((item, pool.submit(one, item)))
            while len(waiting) >= most or (len(waiting) > least and held() > _ROOM):
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        ended.set()
        for _, future in waiting:
            future.cancel()
        at_work = [future for _, future in waiting]
        while at_work:  # a child may have been about to start, or to start again
            with guard:
                for child in list(busy):
                    child.kill()
            at_work = concurrent.futures.wait(at_work, timeout=_AGAIN).not_done


def _threads() -> concurrent.futures.ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = concurrent.futures.ThreadPoolExecutor(workers(), thread_name_prefix="decode")
        return _pool


def _forget() -> None:
    """In a fork: the threads are its parent's, and the lock may be held by another of its."""
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
