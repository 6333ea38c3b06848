"""Training checkpoints: complete or absent, verified before use, kept by recency, merit and period.

A checkpoint is the training state alone: the batch of a step follows from the step's number.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from vqa_jax.devices import hosts
from vqa_jax.errors import VqaError
from vqa_jax.jobs.files import read_json, write_json

KEEP_LATEST = 2  # the newest, and one to fall back on


class CheckpointError(VqaError):
    """A checkpoint cannot be written or used; the message names the folder and the remedy."""


class Checkpointer:
    """Saves and restores a training state under `workdir`/checkpoints, in the background.

    The settings that made the run are kept beside it: a rerun with others is refused instead of
    silently continuing something else. Beside every finished checkpoint lies a list of its files
    and their sizes; one that does not match its list is moved to `workdir`/damaged_checkpoints,
    and the one before it is used. With many processes the folder must be one that all of them see.
    """

    def __init__(
        self, workdir: str, identity: dict[str, Any], keep_best: int = 0, keep_every: int = 0
    ):
        """Opens the folder.

        Args:
          workdir: of the run.
          identity: what a rerun must agree on, as JSON values.
          keep_best: how many checkpoints of lowest loss are kept besides the newest ones.
          keep_every: checkpoints at multiples of this many steps are kept; 0: none.

        Raises:
          CheckpointError: the folder belongs to another run.
        """
        self._workdir = workdir
        self._folder = os.path.abspath(os.path.join(workdir, "checkpoints"))
        os.makedirs(self._folder, exist_ok=True)
        self._check_identity(identity)
        kept: list[Any] = [policies.LatestN(KEEP_LATEST)]
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        if keep_best:
            kept.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics["loss"],
                    reverse=True,
                    n=keep_best,
                    keep_checkpoints_without_metrics=False,
                )
            )
        self._saving: int | None = None
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(kept),
                # A folder that cannot be made fails at once, not after minutes of waiting for it.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
                cleanup_tmp_directories=True,
            ),
        )
        self._latest = self._newest_complete()

    def _check_identity(self, identity: dict[str, Any]) -> None:
        path = os.path.join(self._folder, "identity.json")
        if os.path.exists(path):
            if read_json(path) != identity:
                raise CheckpointError(
                    f"{self._folder} belongs to a run with other settings or data: "
                    "choose another workdir or delete it"
                )
        elif jax.process_index() == 0:
            write_json(path, identity)
        hosts.barrier("identity of the run")

    def _list_path(self, step: int) -> str:
        return os.path.join(self._folder, f"{step}.files.json")

    def _sizes(self, step: int) -> dict[str, int]:
        root = os.path.join(self._folder, str(step))
        paths = [os.path.join(at, name) for at, _, names in os.walk(root) for name in names]
        return {os.path.relpath(path, root): os.path.getsize(path) for path in paths}

    def _list_files(self) -> None:
        """Lists the files of the last save, once it is in place; forgets lists of deleted ones."""
        saved, self._saving = self._saving, None
        if saved is None or jax.process_index() != 0:
            return
        write_json(self._list_path(saved), self._sizes(saved))
        for name in os.listdir(self._folder):
            step, dot, rest = name.partition(".")
            gone = not os.path.isdir(os.path.join(self._folder, step))
            if dot and rest == "files.json" and gone:
                os.remove(os.path.join(self._folder, name))

    def _damage(self, step: int) -> str | None:
        if not os.path.exists(self._list_path(step)):
            return None  # killed between renaming and listing: the rename vouches for it
        wanted, found = read_json(self._list_path(step)), self._sizes(step)
        wrong = sorted(name for name in wanted if found.get(name) != wanted[name])
        if not wrong:
            return None
        return f"{wrong[0]} is missing or not of {wanted[wrong[0]]} bytes ({len(wrong)} such files)"

    def _newest_complete(self) -> int | None:
        """Step of the newest undamaged checkpoint; the same on every host."""
        newest = -1
        if jax.process_index() == 0:
            for step in sorted(self._manager.all_steps(), reverse=True):
                problem = self._damage(step)
                if problem is None:
                    newest = step
                    break
                self._set_aside(step, problem)
        newest = hosts.same_everywhere(newest)
        self._manager.reload()
        return newest if newest >= 0 else None

    def _set_aside(self, step: int, problem: str) -> None:
        aside = os.path.join(self._workdir, "damaged_checkpoints", str(step))
        shutil.rmtree(aside, ignore_errors=True)
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        os.replace(os.path.join(self._folder, str(step)), aside)
        os.remove(self._list_path(step))
        logging.warning(
            "checkpoint of step %d is damaged (%s): moved to %s, falling back to the one before",
            *(step, problem, aside),
        )

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint when the run was opened, or None."""
        return self._latest

    def check(self) -> None:
        """Raises if a save in the background has failed.

        Raises:
          CheckpointError: says which step and why.
        """
        try:
            self._manager.check_for_errors()
        except Exception as error:
            raise self._failed(error) from error
        if not self._manager.is_saving_in_progress():
            self._list_files()

    def _failed(self, error: Exception) -> CheckpointError:
        reason = " ".join(str(error).split())[:300]
        return CheckpointError(
            f"saving step {self._saving} to {self._folder} failed: {reason}: free or repair that "
            "place and run the same command again, which resumes from the last finished checkpoint"
        )

    def save(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Starts a save, after the one before has ended.

        Args:
          step: its number.
          state: copied before this returns.
          metrics: `loss` decides which checkpoints are the best.

        Raises:
          CheckpointError: this save or an earlier one failed.
        """
        if step == self._latest:
            return
        self.wait()
        self._saving = step
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
                metrics=dict(metrics),
            )
        except Exception as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Waits for a save in the background; raises CheckpointError if it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error
        self.check()

    def restore(self, abstract_state: Any) -> Any:
        """The newest complete state, placed as `abstract_state` says.

        Raises:
          CheckpointError: its files are all there, but not readable.
        """
        try:
            restored = self._manager.restore(
                self._latest,
                args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state)),
            )
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self._folder}/{self._latest} cannot be read ({reason}): move it away to resume "
                "from the checkpoint before it"
            ) from error
        logging.info("resumed from step %d", self._latest)
        return restored["state"]

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Closes; under another error, which it lets pass, only what cannot hang is waited for."""
        if kind is None:
            self.close()
        elif jax.process_count() == 1:  # a lost process never ends its part of a save
            try:
                self.close()
            except CheckpointError as error:
                logging.error("%s", error)

    def close(self) -> None:
        """Waits for the last save; raises CheckpointError if it failed."""
        try:
            self.wait()
        finally:
            self._manager.close()


def abstract_of(state: Any, shardings: Any) -> Any:
    """Shapes, dtypes and shardings of a state, for a restore onto any mesh."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
    )
