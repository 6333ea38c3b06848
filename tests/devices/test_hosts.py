"""Messages to end a run: SIGTERM and Ctrl-C let the step at hand finish."""

import signal

import jax
import numpy as np
import pytest

from vqa_jax.devices import hosts, sharding


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


def test_arrays_come_in_pieces_and_values_as_json_gives_them(monkeypatch):
    monkeypatch.setattr(hosts, "PIECE_BYTES", 100)
    values = np.arange(7 * 8, dtype=np.float32).reshape(7, 8)
    mesh = sharding.make_mesh((1, 8, 1))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "fsdp"))
    pieces = list(hosts.pieces(jax.device_put(values, split)))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(pieces), values)
    for whole in (values, jax.device_put(values, sharding.replicated(mesh))):
        np.testing.assert_array_equal(np.concatenate(list(hosts.pieces(whole))), values)
    assert hosts.told_by_first(lambda: {"a": (1, 2)}) == {"a": [1, 2]}
