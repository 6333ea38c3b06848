"""Decodes many files ahead of whoever uses them: several children at work, results in order.

Each worker is a thread that waits for a child process of its own (`isolation`), so that decoding
takes as many processors as there are and runs while the device computes. What has been decoded and
not yet been taken is bounded, however many files there are and however slow the taker is.
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
) -> Iterator[tuple[_Item, concurrent.futures.Future[_Found]]]:
    """Yields each item with a future of what `decode` makes of it, in order.

    Close the iterator where it is left early: files at work are then given up at once.

    Args:
      items: may be endless; `most` of them are taken before they are needed.
      decode: called in a thread with an item and a child that nobody else uses meanwhile.
      limits: of each file.
      most: items that are being decoded or wait to be taken.
    """
    busy: set[Isolated] = set()
    ended = threading.Event()

    def one(item: _Item) -> _Found:
        with isolation.borrowed(limits) as child:
            busy.add(child)
            try:
                if ended.is_set():
                    raise concurrent.futures.CancelledError
                return decode(item, child)
            finally:
                busy.discard(child)

    waiting: collections.deque[tuple[_Item, concurrent.futures.Future[_Found]]]
    waiting = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(workers(), thread_name_prefix="decode")
    try:
        for item in items:
            waiting.append((item, pool.submit(one, item)))
            if len(waiting) >= most:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        ended.set()
        for _, future in waiting:
            future.cancel()
        for child in list(busy):
            child.kill()
        pool.shutdown()
