"""Decoding ahead: order kept, a bound on what waits, and an end at once."""

import concurrent.futures
import contextlib
import itertools
import threading
import time

import pytest

from vqa_jax.media import ahead, isolation
from vqa_jax.settings import DecodeLimits

LIMITS = DecodeLimits(names=("of these", "tests alone"))


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    """Of as many as the test says, not of as many as an earlier one said."""
    monkeypatch.setattr(ahead, "_pool", None)


def _decoded(items, decode, most=4, size=lambda found: 0):
    with contextlib.closing(ahead.in_order(items, decode, LIMITS, most, size)) as found:
        for item, future in found:
            yield item, future.result()


def test_results_come_in_order_however_long_each_takes(monkeypatch):
    monkeypatch.setattr(ahead, "workers", lambda: 3)
    children = set()

    def decode(item, child):
        children.add(child)
        if item == 0:
            slow.wait(60)
        if item == 2:
            slow.set()
        return item * item

    slow = threading.Event()
    assert list(_decoded(range(9), decode)) == [(k, k * k) for k in range(9)]
    assert 2 <= len(children) <= 3  # the first waited, others went on
    assert list(_decoded([], decode)) == []


def test_no_more_than_asked_for_is_taken_before_it_is_needed(monkeypatch):
    monkeypatch.setattr(ahead, "workers", lambda: 2)
    taken = []

    def endless():
        for k in itertools.count():
            taken.append(k)
            yield k

    found = _decoded(endless(), lambda item, child: item, most=5)
    for k in range(7):
        assert next(found) == (k, k) and len(taken) == k + 5
    found.close()
    assert len(taken) == 11


class AtOnce:
    """Threads that have always finished already."""

    def submit(self, work, item):
        """What an executor's does, done before it returns."""
        future = concurrent.futures.Future()
        future.set_result(work(item))
        return future


def test_fewer_wait_where_they_are_large(monkeypatch):
    monkeypatch.setattr(ahead, "_ROOM", 100)
    monkeypatch.setattr(ahead, "workers", lambda: 1)
    monkeypatch.setattr(ahead, "_threads", AtOnce)
    taken = []
    items = (taken.append(k) or k for k in range(12))
    found = _decoded(items, lambda item, child: item, 9, lambda item: 40 if item > 3 else 1)
    ahead_of = [len(taken) - k for k, _ in found]
    assert ahead_of == [7, 6, 5, 4, 3, 3, 3, 3, 3, 3, 2, 1]


def test_threads_stay(monkeypatch):
    monkeypatch.setattr(ahead, "workers", lambda: 1)

    def decode(item, child):
        return threading.get_ident()

    seen = [thread for _ in range(3) for _, thread in _decoded(range(4), decode)]
    assert len(set(seen)) == 1


def test_errors_belong_to_their_item(monkeypatch):
    def decode(item, child):
        if item == 1:
            raise KeyError(item)
        return item

    with contextlib.closing(ahead.in_order(range(3), decode, LIMITS, 2, int)) as found:
        results = [future.exception() or future.result() for _, future in found]
    assert results[::2] == [0, 2] and isinstance(results[1], KeyError)


@pytest.mark.parametrize("pause", [0, 0.3])  # a child may start when all were ended
def test_files_at_work_are_given_up_where_the_taker_leaves(monkeypatch, pause):
    monkeypatch.setattr(ahead, "workers", lambda: 2)
    ended = []

    def decode(item, child):
        if item == 0:
            return child.call("a", time.sleep, 0)
        time.sleep(pause)
        try:
            return child.call("b", time.sleep, 3600)
        except isolation.LimitError as error:
            ended.append(error)
            raise

    found = ahead.in_order(range(100), decode, LIMITS, 4, lambda found: 0)
    item, future = next(found)
    assert (item, future.result()) == (0, None)
    found.close()  # returns, though the others would sleep for an hour
    assert len(ended) <= 2
    with pytest.raises(StopIteration):
        next(found)


def test_there_are_as_many_workers_as_processors():
    assert 1 <= ahead.workers() <= 16
