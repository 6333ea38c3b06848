"""The child's half: it ends with its parent, and where it watches itself at its limit."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest


@pytest.mark.parametrize("linux", [True, False])  # False: the ways of macOS, tried here
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_dies_with_its_parent_even_when_it_hangs(number, linux):
    program = _program(
        linux,
        """
        child = Isolated(DecodeLimits(0, 0))
        print(child.call("a", os.getpid), flush=True)
        child.call("a", work.spin)
    """,
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert _alive(pid)
        parent.send_signal(number)
    until = time.monotonic() + 20
    while _alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _alive(pid)


def test_a_child_that_watches_its_own_memory_ends_at_the_limit():
    # In a process of its own: Linux counts the peak of whoever starts a child as the child's.
    program = _program(
        False,
        """
        child = Isolated(DecodeLimits(60, 700))
        for step in (16, 4096):
            try:
                list(child.run("clip.mp4", work.allocate, step))
            except isolation.LimitError as error:
                print(error.reason)
        print(list(child.run("next.mp4", work.count, 2)))
    """,
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout.splitlines() == ["needed more than 700 MB of memory"] * 2 + ["[0, 1]"]


def _program(linux: bool, lines: str) -> str:
    """A program that uses isolated children, and children for Linux or for anywhere."""
    start = f"""
        import os, sys
        sys.path[:] = {[*sys.path]!r}
        from vqa_jax.media import isolation
        from vqa_jax.media.isolation import Isolated
        from vqa_jax.settings import DecodeLimits
        from tests.fixtures import isolated_work as work
        isolation._LINUX = {linux}
    """
    return textwrap.dedent(start) + textwrap.dedent(lines)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
