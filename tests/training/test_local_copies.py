"""Copies of a state in the memory of machines; how real ones are lost: faults/test_hosts.py."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from vqa_jax.settings import SettingsError, TrainConfig
from vqa_jax.training import local_copies


@dataclasses.dataclass(frozen=True)
class Device:
    process_index: int


def _mesh(processes, shape):
    devices = np.array([Device(process) for process in processes], object).reshape(shape)
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), ("data", "fsdp", "tensor"))
    wanted = type("Described", (), {"devices": devices, "axis_names": mesh.axis_names})()
    wanted.shape = dict(zip(mesh.axis_names, shape, strict=True))
    return wanted


def test_groups_that_hold_the_same_are_of_machines_of_their_own():
    local_copies._require_groups(_mesh([0, 0, 1, 1], (2, 2, 1)))
    local_copies._require_groups(_mesh([0, 1, 2, 3], (2, 2, 1)))
    for processes, shape in (
        ([0, 0, 0, 0], (2, 2, 1)),  # one machine
        ([0, 0, 1, 1], (1, 4, 1)),  # nobody holds the same
        ([0, 0, 1, 1], (4, 1, 1)),  # two of the four on one machine
        ([0, 1, 0, 1], (2, 2, 1)),
    ):
        with pytest.raises(SettingsError, match="no two groups of machines hold the same"):
            local_copies._require_groups(_mesh(processes, shape))


def test_a_run_keeps_its_name_and_a_new_one_gets_another(tmp_path):
    names = []
    for folder in ("one", "one", "two"):
        (tmp_path / folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        names.append(local_copies._run_of(str(tmp_path / folder)))
    assert names[0] == names[1] != names[2]


def test_copies_that_are_never_made_are_refused():
    with pytest.raises(SettingsError, match="local_copies_every 0"):
        TrainConfig(local_copies_every=0)
