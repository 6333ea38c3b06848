"""Messages to end a run: SIGTERM and Ctrl-C let the step at hand finish."""

import signal

import pytest

from vqa_jax.devices import hosts


def test_sigterm_is_a_request():
    before = signal.getsignal(signal.SIGTERM)
    with hosts.end_request() as ending:
        assert not ending.due(1)
        signal.raise_signal(signal.SIGTERM)
        assert ending.due(1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_is_a_request_that_is_told_at_the_end():
    before = signal.getsignal(signal.SIGINT)
    saved = False
    with pytest.raises(KeyboardInterrupt), hosts.end_request() as ending:
        signal.raise_signal(signal.SIGINT)
        assert ending.due(1)
        saved = True
    assert saved and signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_at_once():
    saved = False
    with pytest.raises(KeyboardInterrupt), hosts.end_request():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        saved = True
    assert not saved
