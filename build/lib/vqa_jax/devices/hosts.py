"""Many processes as one run: how they find each other, agree, and end together.

Every process runs the same program on its own devices. Start-up, barriers and the loss of a process
are bounded in time; a message to end (SIGTERM, as before a pre-emption) makes all of them stop at
the same step.
"""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from vqa_jax.errors import VqaError

AUTO = "auto"  # the coordinator is found from the environment
PIECE_BYTES = 1 << 26  # of an array that is gathered
TIMEOUT = 100  # seconds without a sign of life after which a process counts as lost


class HostsError(VqaError):
    """The processes of a run do not find each other, or one was lost; the message says more."""


def connect(
    coordinator: str | None,
    num_processes: int | None = None,
    process: int | None = None,
    timeout: int = TIMEOUT,
) -> None:
    """Joins the run's processes; call it before anything asks JAX for devices.

    Args:
      coordinator: HOST:PORT of process 0; "auto": what Slurm, Open MPI, a TPU pod or GKE tell
        their processes; None: this process is alone.
      num_processes: how many there are; not with "auto".
      process: number of this one, from 0; not with "auto".
      timeout: seconds that start-up may take, and after which a silent process counts as lost.

    Raises:
      HostsError: settings that do not fit, nothing to detect, or not all came in time.
    """
    given = num_processes is not None or process is not None
    if coordinator is None:
        if given:
            raise HostsError("--num_processes and --process need --coordinator HOST:PORT")
        return
    if coordinator == AUTO:
        if given:
            raise HostsError(f"--coordinator {AUTO} finds number and process by itself")
        where: dict[str, Any] = {}
    elif num_processes is None or process is None or not 0 <= process < num_processes:
        raise HostsError("--coordinator HOST:PORT needs --num_processes N and --process 0..N-1")
    else:
        where = {
            "coordinator_address": coordinator,
            "num_processes": num_processes,
            "process_id": process,
        }
    try:
        jax.distributed.initialize(
            **where,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=timeout,
            shutdown_timeout_seconds=timeout,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise HostsError(
            f"joining the run at {coordinator} failed ({reason}): start all processes within "
            f"{timeout} s of each other, with the same coordinator and numbers 0..N-1"
        ) from error
    logging.info(
        "process %d of %d, %d of %d devices",
        *(jax.process_index(), jax.process_count()),
        *(jax.local_device_count(), jax.device_count()),
    )


def barrier(name: str) -> None:
    """Waits for all processes; ends with an error where one was lost."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def same_everywhere(value: int) -> int:
    """Process 0's value."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def anywhere(flag: bool) -> bool:
    """Whether the flag is set on any process; every one must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.int32(flag))))


def told_by_first(make: Callable[[], Any]) -> Any:
    """What process 0 makes, as JSON gives it back, on every process; the others make nothing.

    Raises:
      HostsError: process 0 failed; there its own error is raised.
    """
    if jax.process_count() == 1:
        return json.loads(json.dumps(make()))
    told, error = {}, None
    if jax.process_index() == 0:
        try:
            told = {"made": make()}
        except Exception as caught:  # whatever it is, the others must not wait for it
            told, error = {"failed": f"{type(caught).__name__}: {caught}"}, caught
    words = np.frombuffer(json.dumps(told).encode(), np.uint8)
    room = np.zeros(same_everywhere(len(words)), np.uint8)
    if jax.process_index() == 0:
        room[:] = words
    told = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(room))))
    if error is not None:
        raise error
    if "failed" in told:
        raise HostsError(f"process 0 failed: {told['failed']}")
    return told["made"]


@functools.partial(jax.jit, static_argnames=("rows", "everywhere"))
def _cut(array: jax.Array, start: int, rows: int, everywhere: NamedSharding) -> jax.Array:
    piece = jax.lax.dynamic_slice_in_dim(array, start, rows)
    return jax.lax.with_sharding_constraint(piece, everywhere)


def pieces(array: jax.Array | np.ndarray) -> Iterator[np.ndarray]:
    """The array in host memory, piece after piece along its first axis.

    Devices and host hold no more than a piece (PIECE_BYTES, or a row) beside what they hold
    already. Every process must run through it, and each is given every piece.
    """
    is_here = not isinstance(array, jax.Array) or array.is_fully_replicated
    if is_here or (array.is_fully_addressable and array.nbytes <= PIECE_BYTES):
        yield np.asarray(array)
        return
    everywhere = NamedSharding(array.sharding.mesh, PartitionSpec())
    rows = max(1, PIECE_BYTES * len(array) // array.nbytes)
    for start in range(0, len(array), rows):
        taken = min(rows, len(array) - start)
        yield np.asarray(_cut(array, start, taken, everywhere).addressable_data(0))


class EndRequest:
    """Whether the run was told to end, and at which step all of its processes do.

    Attributes:
      interrupted: it was by Ctrl-C.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._told = False

    def _tell(self, *_: Any) -> None:
        self._told = True

    def _interrupt(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one ends at once
        logging.info("told to end: the step at hand is finished and saved")
        self.interrupted = True
        if jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)  # what JAX listens for
        else:
            self._told = True

    def due(self, step: int) -> bool:
        """Whether the run ends after `step`; ask at every step, on every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._told


@contextlib.contextmanager
def end_request() -> Iterator[EndRequest]:
    """Turns SIGTERM and Ctrl-C into a request while the block runs.

    With many processes JAX's coordination service listens for SIGTERM and lets them agree on a
    step; alone, this process listens itself.

    Raises:
      KeyboardInterrupt: when the block has ended, if it was by Ctrl-C.
    """
    request = EndRequest()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before[signal.SIGINT] = signal.signal(signal.SIGINT, request._interrupt)
        if jax.process_count() == 1:
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, request._tell)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if request.interrupted:
        raise KeyboardInterrupt


@contextlib.contextmanager
def reporting_loss(what: str) -> Iterator[None]:
    """Turns the failure of a collective, which is how a lost process shows, into a HostsError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = " ".join(str(error).split())[:300]
        raise HostsError(
            f"{what}: another process was lost ({reason}): see that process's output; starting all "
            "of them again resumes from the last checkpoint"
        ) from error
