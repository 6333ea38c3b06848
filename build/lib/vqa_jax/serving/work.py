"""What requests wait for: threads that decode, and one that gives the device whole batches."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from vqa_jax.errors import VqaError
from vqa_jax.media import ahead
from vqa_jax.media.container import MediaError
from vqa_jax.media.isolation import Leash

_Item, _Found = TypeVar("_Item"), TypeVar("_Found")


class EndedError(VqaError):
    """A request was ended before its answer; the message says by what."""


class Ticket:
    """One request's right to work: for so long, and until it is ended.

    Args:
      seconds: of work in threads, in all.
    """

    def __init__(self, seconds: float):
        self._left, self._seconds, self._leash = seconds, seconds, Leash()
        self.reason = ""

    def end(self, reason: str) -> None:
        """Ends what decodes for it; `run` then raises EndedError with this reason."""
        self.reason = self.reason or reason
        self._leash.end()

    def run(self, fn: Callable[..., _Found], *args: Any) -> _Found:
        """`fn(*args)`; called in a thread.

        Raises:
          EndedError: it was ended, before or meanwhile.
        """
        if self.reason:
            raise EndedError(self.reason)
        late = f"took longer than {self._seconds:g} s (--work_seconds)"
        timer = threading.Timer(max(self._left, 0.0), self.end, [late])
        begun = time.monotonic()
        timer.start()
        try:
            with self._leash:
                found = fn(*args)
        except MediaError as error:
            if self.reason:
                raise EndedError(self.reason) from error
            raise
        finally:
            timer.cancel()
            self._left -= time.monotonic() - begun
        if self.reason:
            raise EndedError(self.reason)
        return found


class Threads:
    """Threads in which requests decode: as many as there are processors, the first come first."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(ahead.workers(), "request")

    async def run(self, ticket: Ticket, fn: Callable[..., _Found], *args: Any) -> _Found:
        """As `Ticket.run`, in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, ticket.run, fn, *args)

    def close(self) -> None:
        """Waits for what is at work."""
        self._pool.shutdown()


class Batches(Generic[_Item, _Found]):
    """One thread that computes: what has come meanwhile goes together into the next batch.

    Args:
      compute: items -> what is found for each, in order.
      most: items of a batch.
      told: called with the size of every batch.
    """

    def __init__(
        self,
        compute: Callable[[list[_Item]], Sequence[_Found]],
        most: int,
        told: Callable[[int], None] = lambda size: None,
    ):
        self._compute, self._most, self._told = compute, most, told
        self._waiting: queue.SimpleQueue[tuple[_Item, concurrent.futures.Future] | None]
        self._waiting = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    async def submit(self, item: _Item) -> _Found:
        """What is found for an item; raises what `compute` raises about it."""
        future: concurrent.futures.Future[_Found] = concurrent.futures.Future()
        self._waiting.put((item, future))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Ends the thread once what waits is done."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while len(batch) < self._most and not self._waiting.empty():
                batch.append(self._waiting.get())  # nobody else takes any
            ended = None in batch
            wanted = [one for one in batch if one and one[1].set_running_or_notify_cancel()]
            if wanted:
                self._told(len(wanted))
                self._answer(wanted)

    def _answer(self, batch: list[tuple[_Item, concurrent.futures.Future]]) -> None:
        try:
            found = self._compute([item for item, _ in batch])
        except Exception as error:  # what one of them is wrong in is not the others' fault
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:
                self._answer([one])
            return
        for (_, future), value in zip(batch, found, strict=True):
            future.set_result(value)
