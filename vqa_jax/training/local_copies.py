"""Copies of the training state in the machines' own memory, between checkpoints.

The groups of devices along `data` all hold the same state. Each of them but the first writes its
machines' shards to a folder there, such as one below /dev/shm; where a machine was lost and the run
starts again, a group whose machines all have theirs reads them, and sends them to the others. This
is Orbax's emergency checkpointing, of which the part that writes to a shared folder is left out:
that is what `checkpoint` does.
"""

from __future__ import annotations

import os
import shutil
import uuid
from typing import Any

import absl.flags
import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh
from orbax.checkpoint import multihost
from orbax.checkpoint.experimental.emergency import checkpoint_manager as emergency

from vqa_jax.devices import hosts
from vqa_jax.jobs.files import read_json, write_sealed
from vqa_jax.settings import SettingsError
from vqa_jax.training.checkpoint import CheckpointError

_KEPT = 2  # the newest, and one to fall back on
_ID_FILE = "copies.json"


class LocalCopies:
    """Saves and restores a training state in a folder that every machine has for itself.

    A copy belongs to a work folder's run, its mesh and its processes, which must start with the
    same numbers on the same machines; what is there of others of that run is removed.
    """

    def __init__(self, folder: str, workdir: str, mesh: Mesh, state: Any):
        """Opens the folder; every process calls it.

        Args:
          folder: on each machine.
          workdir: of the run, which all machines see.
          mesh: where the state is.
          state: shapes of what is saved, with their shardings.

        Raises:
          SettingsError: no two groups of machines hold the same.
        """
        _require_groups(mesh)
        run = hosts.told_by_first(lambda: _run_of(workdir))
        place = "x".join(map(str, (*mesh.shape.values(), jax.process_count())))
        whole = os.path.join(folder, run)
        for name in os.listdir(whole) if os.path.isdir(whole) else ():
            if name != place:
                shutil.rmtree(os.path.join(whole, name), ignore_errors=True)
        self._folder = os.path.join(whole, place, str(jax.process_index()))
        self._state = state
        nothing = os.path.join(self._folder, "shared")  # where Orbax would put shared ones
        local = os.path.join(self._folder, "local")
        for path in (nothing, local):
            os.makedirs(path, exist_ok=True)
        if not absl.flags.FLAGS.is_parsed():
            absl.flags.FLAGS.mark_as_parsed()  # Orbax asks one of its own
        multihost.initialize_runtime_to_distributed_ids()
        multihost.initialize_distributed_to_device_ids()
        self._manager = emergency.CheckpointManager(
            local,
            nothing,
            mesh,
            state,
            options=emergency.CheckpointManagerOptions(
                local=emergency.LocalCheckpointOptions(save_interval_steps=1, max_to_keep=_KEPT),
                persistent=emergency.PersistentCheckpointOptions(should_save_fn=lambda *_: False),
                replica_axis_index=mesh.axis_names.index("data"),
                cleanup_tmp_directories=True,
            ),
        )

    def latest_step(self) -> int | None:
        """Step of the newest copy that some group has whole; the same everywhere."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts a save; every process calls it.

        Raises:
          CheckpointError: this save or an earlier one failed.
        """
        self.check()
        try:
            self._manager.save(step, args=ocp.args.Composite(state=ocp.args.PyTreeSave(state)))
        except OSError as error:
            raise self._failed(error) from error

    def restore(self) -> Any:
        """The newest copy's state, placed as it was saved."""
        step = self.latest_step()
        found = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.PyTreeRestore(self._state))
        )
        logging.info("resumed from step %d, of which machines had copies", step)
        return found["state"]

    def check(self) -> None:
        """Raises CheckpointError if a save in the background has failed."""
        try:
            self._manager.check_for_errors()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"a copy in {self._folder} failed ({' '.join(str(error).split())[:300]}): make room "
            "there, or leave train.local_copies out, and run the same command again"
        )

    def close(self, finished: bool) -> None:
        """Waits for the last save; of a finished run removes this machine's copies."""
        self._manager.wait_until_finished()
        self._manager.close()
        if finished:
            shutil.rmtree(self._folder, ignore_errors=True)


def _require_groups(mesh: Mesh) -> None:
    """Raises SettingsError unless `data` has two groups or more, each of processes of its own."""
    place = mesh.axis_names.index("data")
    groups = [
        {device.process_index for device in mesh.devices.take(index, place).flat}
        for index in range(mesh.shape["data"])
    ]
    if len(groups) < 2 or sum(map(len, groups)) > len(set().union(*groups)):
        raise SettingsError(
            f"local_copies: no two groups of machines hold the same on a mesh of "
            f"{dict(mesh.shape)} over {jax.process_count()} processes: copies need data of 2 or "
            "more, each part of it on machines of its own"
        )


def _run_of(workdir: str) -> str:
    """A name that this work folder's run has to itself, though the folder be made anew."""
    path = os.path.join(workdir, "checkpoints", _ID_FILE)
    if not os.path.exists(path):
        write_sealed(path, {"run": uuid.uuid4().hex})
    return read_json(path, {"run": str})["run"]
