"""Work for requests: batches that fill while the device computes, tickets that end, in threads."""

import asyncio
import threading
import time

import pytest

from tests.fixtures import isolated_work
from vqa_jax.media import isolation
from vqa_jax.serving.work import Batches, EndedError, Threads, Ticket
from vqa_jax.settings import DecodeLimits

LIMITS = DecodeLimits(seconds=60, memory_mb=500)


def test_what_comes_while_the_device_computes_is_the_next_batch():
    free, sizes, computed = threading.Event(), [], []

    def compute(items):
        computed.append(list(items))
        free.wait(20)
        return [2 * item for item in items]

    async def all_of_them():
        batches = Batches(compute, 4, sizes.append)
        first = asyncio.create_task(batches.submit(0))
        while not computed:
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(batches.submit(k)) for k in range(1, 7)]
        await asyncio.sleep(0.01)
        free.set()
        found = await asyncio.gather(first, *others)
        batches.close()
        return found

    assert asyncio.run(all_of_them()) == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [1, 4, 2] and computed[1] == [1, 2, 3, 4]


def test_one_that_fails_is_alone_in_it():
    def compute(items):
        return [1 / item for item in items]

    async def all_of_them():
        batches = Batches(compute, 8)
        work = [batches.submit(k) for k in (1, 0, 2)]
        found = await asyncio.gather(*work, return_exceptions=True)
        batches.close()
        return found

    one, failed, other = asyncio.run(all_of_them())
    assert (one, other) == (1, 0.5) and isinstance(failed, ZeroDivisionError)


def test_a_ticket_that_is_ended_ends_what_decodes_for_it():
    ticket, threads = Ticket(60), Threads()

    async def hang():
        work = threads.run(ticket, isolation.call, LIMITS, "a", isolated_work.spin)
        task = asyncio.create_task(work)
        await asyncio.sleep(0.1)
        ticket.end("the client has gone")
        with pytest.raises(EndedError, match="gone"):
            await task
        with pytest.raises(EndedError, match="gone"):
            await threads.run(ticket, list)

    asyncio.run(hang())
    threads.close()


def test_work_takes_as_long_as_it_may_over_all_its_parts():
    ticket = Ticket(0.3)
    assert ticket.run(time.sleep, 0.2) is None
    with pytest.raises(EndedError, match=r"longer than 0.3 s \(--work_seconds\)"):
        ticket.run(isolation.call, LIMITS, "a", isolated_work.spin)
