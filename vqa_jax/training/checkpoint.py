"""Training checkpoints: complete or absent, verified before use, kept by recency, merit and period.

A checkpoint is what training changes, alone: the batch of a step follows from the step's number,
and frozen weights follow from the run's start.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
import shutil
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from vqa_jax.devices import hosts
from vqa_jax.errors import VqaError
from vqa_jax.jobs import contents, outputs, places
from vqa_jax.jobs.files import CorpusError, read_json, write_sealed
from vqa_jax.jobs.stores import PlaceError

KEEP_LATEST = 2  # the newest, and one to fall back on


class CheckpointError(VqaError):
    """A checkpoint cannot be written or used; the message names the folder and the remedy."""


class Checkpointer:
    """Saves and restores a training state under `workdir`/checkpoints, in the background.

    The settings that made the run are kept beside it: a rerun with others is refused instead of
    silently continuing something else. Beside every finished checkpoint lie lists of its files,
    with sizes and SHA-256, one of each process that wrote some. Sizes are compared when the folder
    is opened, hashes when the bytes are read anyway; a checkpoint that does not match is moved to
    `workdir`/damaged_checkpoints, and the one before it is used. With many processes the folder
    must be one that all of them see.
    """

    def __init__(
        self, workdir: str, identity: dict[str, Any], keep_best: int = 0, keep_every: int = 0
    ):
        """Opens the folder.

        Args:
          workdir: of the run.
          identity: what a rerun must agree on, as JSON values.
          keep_best: how many checkpoints of lowest held-out loss are kept besides the newest ones.
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
        self._saving: int | None = None  # until its files are being listed
        self._saved: int | None = None
        self._lister = concurrent.futures.ThreadPoolExecutor(1)  # hashing must not hold up steps
        self._listing: concurrent.futures.Future[None] | None = None
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
        stored = read_json(path, dict) if os.path.exists(path) else {}
        changed = sorted(name for name in stored if stored[name] != identity.get(name))
        if changed:
            raise CheckpointError(
                f"{self._folder} belongs to a run with other settings or data (other "
                f"{', '.join(changed)}): choose another workdir or delete it"
            )
        new = sorted(identity.keys() - stored.keys())
        if stored and new:
            logging.info("%s does not tell its %s: from now on it does", path, ", ".join(new))
        if new and jax.process_index() == 0:
            write_sealed(path, identity)
        hosts.barrier("identity of the run")

    # --- lists of files ---------------------------------------------------------------------------

    def _list_path(self, step: int, process: int = 0) -> str:
        part = f".{process}" if process else ""
        return os.path.join(self._folder, f"{step}.files{part}.json")

    def _list_paths(self, step: int) -> list[str]:
        pattern = re.compile(rf"{step}\.files(\.\d+)?\.json")
        names = sorted(filter(pattern.fullmatch, os.listdir(self._folder)))
        return [os.path.join(self._folder, name) for name in names]

    def _list_files(self, step: int) -> None:
        """Lists this process's files of a save that is in place; forgets lists of deleted ones."""
        root, process = os.path.join(self._folder, str(step)), jax.process_index()
        mine = [name for name in contents.names_below(root) if _writer_of(name) == process]
        if mine:
            write_sealed(self._list_path(step, process), contents.listed(root, mine))
        if process != 0:
            return
        for name in os.listdir(self._folder):
            saved, _, rest = name.partition(".")
            gone = not os.path.isdir(os.path.join(self._folder, saved))
            if rest.startswith("files.") and gone:
                os.remove(os.path.join(self._folder, name))
        places.publish(self._folder)  # of a work folder at a URL, all that is new in it

    def _listed(self, step: int) -> contents.Listed:
        """What the lists tell of a checkpoint's files; those of earlier versions tell sizes alone.

        Raises:
          CorpusError: a list is damaged.
        """
        found: contents.Listed = {}
        for path in self._list_paths(step):
            told = read_json(path, {str: _is_facts})
            if not told:
                raise CorpusError(f"{path} lists no files")
            for name, facts in told.items():
                found[name] = facts if isinstance(facts, dict) else {"bytes": facts}
        return found

    def _damage(self, step: int, whole: bool) -> str | None:
        """What is wrong with the checkpoint: by sizes, or also by hashes of this process's share.

        A file that no list names is not looked at, as where a run was killed between a save and
        its list: the rename of the folder vouches for it.
        """
        try:
            wanted = self._listed(step)
        except CorpusError as error:
            return str(error)
        if whole:
            if not self._is_hashed(step):
                logging.info("checkpoint of step %d has no list of hashes: used unchecked", step)
            processes, mine = jax.process_count(), jax.process_index()
            wanted = {n: w for n, w in wanted.items() if _writer_of(n) % processes == mine}
        return contents.changed(os.path.join(self._folder, str(step)), wanted, whole)

    def _is_hashed(self, step: int) -> bool:
        """Whether lists of hashes vouch for a checkpoint."""
        wanted = self._listed(step)
        return bool(wanted) and all("sha256" in facts for facts in wanted.values())

    def _newest_complete(self) -> int | None:
        """Step of the newest undamaged checkpoint; the same on every host."""
        newest = -1
        if jax.process_index() == 0:
            for step in sorted(self._manager.all_steps(), reverse=True):
                problem = self._damage(step, whole=False)
                if problem is None:
                    newest = step
                    break
                self._set_aside(step, problem)
        newest = hosts.same_everywhere(newest)
        self._manager.reload()
        return newest if newest >= 0 else None

    def _newest_unchanged(self) -> int | None:
        """As `_newest_complete`, after the bytes have been looked at too."""
        step = self._latest
        while step is not None:
            problem = self._damage(step, whole=True)
            if not hosts.anywhere(problem is not None):
                break
            if jax.process_index() == 0:
                self._set_aside(step, problem or "files that another process checked")
            elif problem:
                logging.warning("checkpoint of step %d is damaged (%s)", step, problem)
            self._manager.reload()  # it remembers the steps that it has seen
            step = self._newest_complete()
        return step

    def _set_aside(self, step: int, problem: str) -> None:
        aside = os.path.join(self._workdir, "damaged_checkpoints", str(step))
        shutil.rmtree(aside, ignore_errors=True)
        os.makedirs(os.path.dirname(aside), exist_ok=True)
        os.replace(os.path.join(self._folder, str(step)), aside)
        for path in self._list_paths(step):
            os.remove(path)
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
        if self._saving is not None and not self._manager.is_saving_in_progress():
            self._listing = self._lister.submit(self._list_files, self._saving)
            self._saving = None
        if self._listing is not None and self._listing.done():
            self._await_list()

    def _await_list(self) -> None:
        listing, self._listing = self._listing, None
        if listing is not None:
            try:
                listing.result()
            except OSError as error:
                raise self._failed(error) from error
            except PlaceError as error:
                raise CheckpointError(f"step {self._saved} is saved here alone: {error}") from error

    def _failed(self, error: Exception) -> CheckpointError:
        system = outputs.of_the_system(error, self._folder)
        reason = system.strerror if system else " ".join(str(error).split())[:300]
        return CheckpointError(
            f"saving step {self._saved} to {self._folder} failed: {reason}: free or repair that "
            "place and run the same command again, which resumes from the last finished checkpoint"
        )

    def save(self, step: int, state: Any, loss: float | None = None) -> None:
        """Starts a save, after the one before has ended; a step that is saved is left as it is.

        Args:
          step: its number.
          state: copied before this returns.
          loss: on held-out pairs, which decides what checkpoints are the best; None: not known.

        Raises:
          CheckpointError: this save or an earlier one failed.
        """
        if step in (self._latest, self._saved):
            return
        self.wait()
        self._saving = self._saved = step
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.PyTreeSave(state)),
                metrics=None if loss is None else {"loss": loss},
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
        self._await_list()

    def restore(self, abstract_state: Any) -> Any | None:
        """The newest undamaged state, placed as `abstract_state` says; None if there is none.

        Every file is hashed by one process, the one that wrote it where there are as many. What
        cannot be read although no hash vouches for it is damaged, too.

        Raises:
          CheckpointError: its files are as they were written, but cannot be read; or none that
            were there can be.
        """
        self._latest = self._newest_unchanged()
        if self._latest is None:
            return None
        args = ocp.args.PyTreeRestore(
            abstract_state,
            restore_args=ocp.checkpoint_utils.construct_restore_args(abstract_state),
            partial_restore=True,  # checkpoints of earlier versions hold frozen weights, too
        )
        while True:
            try:
                restored = self._manager.restore(
                    self._latest,
                    args=ocp.args.Composite(state=args),
                )
                break
            except Exception as error:
                self._fall_back(error)
        logging.info("resumed from step %d", self._latest)
        return restored["state"]

    def _fall_back(self, error: Exception) -> None:
        """Goes to the checkpoint before one that cannot be read.

        Raises:
          CheckpointError: hashes vouch for it, or there is none before it.
        """
        step = self._latest
        reason = f"cannot be read ({' '.join(str(error).split())[:300]})"
        if self._is_hashed(step) or jax.process_count() > 1:
            raise CheckpointError(
                f"{self._folder}/{step} {reason}: move it away to resume from the checkpoint"
                " before it"
            ) from error
        self._set_aside(step, reason)
        self._manager.reload()
        self._latest = self._newest_complete()
        self._latest = self._newest_unchanged()
        if self._latest is None:
            raise CheckpointError(
                f"{self._folder}: {reason}: no checkpoint is left; the same command starts from"
                " the run's beginning"
            ) from error

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
            self._lister.shutdown()
            self._manager.close()


def _is_facts(value: Any) -> bool:
    """Whether a list tells this of a file: its size, or size and hash."""
    sizes = value.get("bytes") if isinstance(value, dict) else value
    return isinstance(sizes, int)


def _writer_of(name: str) -> int:
    """Number of the process that wrote a checkpoint's file; what all share is process 0's."""
    found = re.search(r"ocdbt\.process_(\d+)", name)
    return int(found[1]) if found else 0
