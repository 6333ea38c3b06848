"""Training checkpoints: state and data iterator together, complete or absent."""

from __future__ import annotations

import os
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from absl import logging

from vqa_jax.files import read_json, write_json


class CheckpointError(Exception):
    """A checkpoint cannot be used; the message names the folder and the remedy."""


class Checkpointer:
    """Saves and restores (state, data iterator) under `workdir`/checkpoints.

    The settings that made the run are kept beside it: a rerun with others is refused instead of
    silently continuing something else.
    """

    def __init__(self, workdir: str, identity: dict[str, Any], keep: int = 2):
        folder = os.path.abspath(os.path.join(workdir, "checkpoints"))
        os.makedirs(folder, exist_ok=True)
        identity_path = os.path.join(folder, "identity.json")
        if os.path.exists(identity_path):
            if read_json(identity_path) != identity:
                raise CheckpointError(
                    f"{folder} belongs to a run with other settings or data: "
                    "choose another workdir or delete it"
                )
        else:
            write_json(identity_path, identity)
        self._manager = ocp.CheckpointManager(
            folder, options=ocp.CheckpointManagerOptions(max_to_keep=keep)
        )

    def latest_step(self) -> int | None:
        """Step of the newest finished checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, iterator: grain.DatasetIterator) -> None:
        """Saves asynchronously; an error of an earlier save is raised here."""
        self._manager.check_for_errors()
        if step == self.latest_step():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), data=grain.checkpoint.CheckpointSave(iterator)
            ),
        )

    def restore(self, abstract_state: Any, iterator: grain.DatasetIterator) -> Any:
        """The newest state, placed as `abstract_state` says; the iterator is moved in place."""
        step = self.latest_step()
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract_state),
                data=grain.checkpoint.CheckpointRestore(iterator),
            ),
        )
        logging.info("resumed from step %d", step)
        return restored["state"]

    def close(self) -> None:
        """Waits for the last save; raises if it failed."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()
        self._manager.close()


def abstract_of(state: Any, shardings: Any) -> Any:
    """Shapes, dtypes and shardings of a state, for a restore onto any mesh."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )
