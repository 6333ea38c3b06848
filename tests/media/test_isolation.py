"""The child process for untrusted files: results, limits, ends of every kind.

What the child runs is in `tests/isolated_work.py`: it imports its functions by module.
"""

import dataclasses
import os
import signal
import sys
import threading
import time

import pytest

from tests.fixtures import isolated_work as work
from vqa_jax.media import isolation
from vqa_jax.media.container import MediaError, TruncatedVideoError
from vqa_jax.media.isolation import Isolated, LimitError
from vqa_jax.settings import DecodeLimits

LIMITS = DecodeLimits(seconds=60, memory_mb=500, names=("--seconds", "--memory"))
PATIENT = 6.0  # seconds that a child surely starts in, on a machine that others use, too


@pytest.fixture(scope="module")
def isolated():
    with Isolated(LIMITS) as child:
        yield child


def _collect(child, fn, *args):
    """Items that came, and the reason of the limit that ended them, if any."""
    items = []
    try:
        for item in child.run("clip.mp4", fn, *args):
            items.append(item)
    except LimitError as error:
        assert (error.path, error.stage) == ("clip.mp4", "limit")
        return items, error.reason
    return items, None


def test_items_come_in_order_from_one_child_that_stays(isolated):
    pids = {isolated.call("a", os.getpid) for _ in range(3)}
    assert list(isolated.run("a", work.count, 5)) == [0, 1, 2, 3, 4]
    assert pids == {isolated.call("a", os.getpid)} and os.getpid() not in pids


def test_large_items_come_whole(isolated):
    blocks = list(isolated.run("a", work.blocks, 3, 4 << 20))
    assert [block == bytes([i]) * (4 << 20) for i, block in enumerate(blocks)] == [True] * 3


def test_names_that_are_not_text_pass(isolated):
    assert list(isolated.run("a", work.echo, "caf\udce9.mp4")) == ["caf\udce9.mp4"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_dies_costs_its_file_only(isolated, number):
    items, reason = _collect(isolated, work.die, number)
    assert items == [0, 1]
    assert reason and ("killed from outside" in reason) == (number == signal.SIGKILL)
    assert list(isolated.run("next.mp4", work.count, 2)) == [0, 1]


def test_a_child_that_died_idle_is_no_fault_of_the_next_file(isolated):
    os.kill(isolated.call("a", os.getpid), signal.SIGKILL)
    time.sleep(0.1)
    assert list(isolated.run("next.mp4", work.count, 2)) == [0, 1]


def test_a_hang_ends_at_the_limit():
    with Isolated(DecodeLimits(seconds=PATIENT, memory_mb=0)) as child:
        items, reason = _collect(child, work.hang)
        assert items == [0] and reason == f"took longer than {PATIENT:g} s"
        assert list(child.run("next.mp4", work.count, 2)) == [0, 1]


def test_time_of_the_caller_does_not_count():
    with Isolated(DecodeLimits(seconds=PATIENT, memory_mb=0)) as child:
        items = []
        for item in child.run("clip.mp4", work.count, 3):
            time.sleep(0.4 * PATIENT)
            items.append(item)
    assert items == [0, 1, 2]


@pytest.mark.parametrize("step_mb", [16, 4096])
def test_memory_ends_at_the_limit(isolated, step_mb):
    items, reason = _collect(isolated, work.allocate, step_mb)
    assert items == [0] and reason == "needed more than 500 MB of memory (--memory)"
    assert list(isolated.run("next.mp4", work.count, 2)) == [0, 1]


def test_a_child_that_has_grown_is_renewed(isolated):
    before = isolated.call("a", os.getpid)
    isolated.call("a", work.keep, 300)
    assert isolated.call("a", os.getpid) != before


def test_unknown_errors_are_the_files_with_their_name(isolated):
    with pytest.raises(MediaError, match=r"ValueError: bad number") as error:
        list(isolated.run("a.mp4", work.fail))
    assert (error.value.path, error.value.stage) == ("a.mp4", "decode")
    assert "isolated_work.py" in error.value.__cause__.__notes__[0]
    with pytest.raises(MediaError, match="two arguments"):  # cannot be unpickled as it is
        list(isolated.run("a", work.fail_oddly))


def test_typed_errors_stay_what_they_are(isolated):
    with pytest.raises(TruncatedVideoError) as error:
        list(isolated.run("a.mp4", work.fail_typed))
    assert error.value.num_frames == 3


def test_a_caller_that_stops_early_leaves_no_old_items(isolated):
    stream = isolated.run("a", work.count, 1000)
    assert next(stream) == 0
    stream.close()
    assert list(isolated.run("a", work.echo, "new")) == ["new"]


def test_a_broken_installation_is_not_the_files_fault(monkeypatch):
    monkeypatch.setattr(sys, "path", ["/nonexistent"])
    with Isolated(LIMITS) as child, pytest.raises(isolation.ChildStartError):
        child.call("a", os.getpid)


def test_a_child_that_is_killed_while_it_starts_costs_its_file_only(isolated):
    isolated.close()
    isolated.start()
    isolated._process.kill()
    isolated._process.wait = lambda: -signal.SIGKILL  # as if it had not been seen to end yet
    isolated._process.poll = lambda: None
    with pytest.raises(LimitError, match="killed from outside"):
        isolated.call("a", os.getpid)
    assert isolated.call("a", os.getpid)


def test_borrowed_children_are_used_again_and_by_one_at_a_time():
    with isolation.borrowed(LIMITS) as first, isolation.borrowed(LIMITS) as second:
        assert first is not second
    with isolation.borrowed(LIMITS) as again:
        assert again in (first, second)
    pids = {isolation.call(LIMITS, "a", os.getpid) for _ in range(2)}
    assert len(pids) == 1
    assert list(isolation.run(LIMITS, "a", work.count, 3)) == [0, 1, 2]
    assert pids != {isolation.call(DecodeLimits(9, 999), "a", os.getpid)}


def test_other_limits_of_time_do_not_cost_a_child():
    pid = isolation.call(LIMITS, "a", os.getpid)
    brief = dataclasses.replace(LIMITS, seconds=0.2)
    with pytest.raises(LimitError, match=r"took longer than 0\.2 s"):
        assert isolation.call(dataclasses.replace(LIMITS, seconds=50), "a", os.getpid) == pid
        isolation.call(brief, "a", work.spin)


def test_a_leash_ends_its_own_callers_children_and_lends_no_more():
    leash, reasons = isolation.Leash(), []

    def caller():
        with leash:
            for fn, *args in ((work.rest, 60), (os.getpid,)):
                try:
                    isolation.call(LIMITS, "a", fn, *args)
                except LimitError as error:
                    reasons.append(error.reason)

    with isolation.borrowed(LIMITS) as other:
        pid = other.call("b", os.getpid)
        thread = threading.Thread(target=caller)
        thread.start()
        until = time.monotonic() + 20
        while not leash._lent and time.monotonic() < until:
            time.sleep(0.01)
        leash.end()
        thread.join()
        assert other.call("b", os.getpid) == pid
    assert reasons == ["was given up"] * 2
    assert list(isolation.run(LIMITS, "a", work.count, 2)) == [0, 1]


def test_a_child_that_was_started_ahead_is_the_one_that_works():
    isolation.start(LIMITS)
    with isolation.borrowed(LIMITS) as child:
        started = child._process.pid
    assert isolation.call(LIMITS, "a", os.getpid) == started


def test_a_fork_leaves_its_parents_children_alone():
    pid = isolation.call(LIMITS, "a", os.getpid)
    if not (fork := os.fork()):
        isolation._idle.clear()
        os._exit(0)
    os.waitpid(fork, 0)
    assert isolation.call(LIMITS, "a", os.getpid) == pid


def test_limits_below_zero_are_refused():
    with pytest.raises(ValueError, match="start at 0"):
        DecodeLimits(-1, 0)
