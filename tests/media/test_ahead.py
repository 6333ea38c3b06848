"""Decoding ahead: order kept, a bound on what waits, and an end at once."""

import contextlib
import itertools
import threading
import time

import pytest

from vqa_jax.media import ahead, isolation
from vqa_jax.settings import DecodeLimits

LIMITS = DecodeLimits(names=("of these", "tests alone"))


def _decoded(items, decode, most=4):
    with contextlib.closing(ahead.in_order(items, decode, LIMITS, most)) as found:
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


def test_errors_belong_to_their_item(monkeypatch):
    def decode(item, child):
        if item == 1:
            raise KeyError(item)
        return item

    with contextlib.closing(ahead.in_order(range(3), decode, LIMITS, 2)) as found:
        results = [future.exception() or future.result() for _, future in found]
    assert results[::2] == [0, 2] and isinstance(results[1], KeyError)


def test_files_at_work_are_given_up_where_the_taker_leaves(monkeypatch):
    monkeypatch.setattr(ahead, "workers", lambda: 2)
    ended = []

    def decode(item, child):
        if item == 0:
            return child.call("a", time.sleep, 0)
        try:
            return child.call("b", time.sleep, 3600)
        except isolation.LimitError as error:
            ended.append(error)
            raise

    found = ahead.in_order(range(100), decode, LIMITS, 4)
    item, future = next(found)
    assert (item, future.result()) == (0, None)
    found.close()  # returns, though the others would sleep for an hour
    assert len(ended) <= 2
    with pytest.raises(StopIteration):
        next(found)


def test_there_are_as_many_workers_as_processors():
    assert 1 <= ahead.workers() <= 16
