"""Good and bad behaviour for the isolated child of `test_isolation`."""

import os
import time

import numpy as np

_kept = []


class TwoArgumentsError(Exception):
    """Cannot be unpickled: its arguments are not those of its constructor."""

    def __init__(self, one, other):
        super().__init__(f"two arguments {one} {other}")


def count(number):
    yield from range(number)


def echo(value):
    yield value


def blocks(number, size):
    for i in range(number):
        yield bytes([i]) * size


def die(number):
    yield 0
    yield 1
    os.kill(os.getpid(), number)
    time.sleep(60)


def hang():
    yield 0
    time.sleep(600)


def spin():
    while True:  # holds the interpreter, as a decoder that loops may
        pass


def allocate(step_mb):
    yield 0
    held = []
    for _ in range(1000):
        held.append(np.ones(step_mb << 17))
    raise AssertionError("nobody stopped this")


def keep(mb):
    _kept.append(np.ones(mb << 17))


def fail():
    yield 0
    raise ValueError("bad number")


def fail_oddly():
    yield 0
    raise TwoArgumentsError(1, 2)
