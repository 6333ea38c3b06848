"""Work cut into ranges that processes share: resumable, and the same whoever does which range.

A range's file appears by rename when it is complete. Process i of n takes every n-th range; the
processes may run at once or one after the other, on one machine or on many that see the folder.
Whichever finds the last range publishes the result, alone. Files that cannot tell by themselves
that they are damaged have a mark beside them, which is written last and holds their hashes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence

from absl import logging
from tqdm import tqdm

from vqa_jax.jobs import contents, places
from vqa_jax.jobs.files import CorpusError, exclusive, read_json, write_sealed

_LOCK_SECONDS = 0.5
_WAIT_SECONDS = 0.2
_TELL_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Share:
    """This process's part of the work: number `process` of `processes`, from 0.

    Raises:
      CorpusError: there is no such part.
    """

    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.process < self.processes:
            raise CorpusError(
                f"process {self.process} of {self.processes}: number the processes 0 to"
                f" {self.processes - 1}"
            )


def compute(
    sizes: Sequence[int],
    paths: Sequence[str],
    make: Callable[[int, tqdm], None],
    share: Share,
    desc: str,
    is_done: Callable[[int], bool] | None = None,
) -> int:
    """Computes the ranges of this process's share that are not done yet; shows how far it is.

    Where they lie in a copy of a URL, every finished range is put there.

    Args:
      sizes: videos of each range.
      paths: the file of each range that is written last; their folders are made.
      make: computes and writes range k; tells the progress bar of every video.
      share: of this process.
      desc: title of the progress bar, which tells throughput and time left.
      is_done: whether range k is complete, asked once before the work; None: its file is there.

    Returns:
      How many ranges, of all shares, are not there.

    Raises:
      stores.PlaceError: a finished range cannot be put.
    """

    def is_there(k: int) -> bool:
        return os.path.exists(paths[k])

    for folder in {os.path.dirname(path) for path in paths}:
        os.makedirs(folder, exist_ok=True)
    is_done = is_done or is_there
    mine = range(share.process, len(sizes), share.processes)
    left = [k for k in mine if not is_done(k)]
    total = sum(sizes[k] for k in mine)
    ready = total - sum(sizes[k] for k in left)
    with tqdm(total=total, initial=ready, desc=desc, unit="video", mininterval=1) as bar:
        for k in left:
            make(k, bar)
            places.publish(paths[k])
    return sum(not is_there(k) for k in range(len(paths)))


def mark_of(path: str) -> str:
    """Where the mark of a range stands whose last file is `path`."""
    return path + ".whole.json"


def mark(*paths: str) -> None:
    """Tells that a range's files, all of one folder, are whole."""
    names = [os.path.basename(path) for path in paths]
    write_sealed(mark_of(paths[-1]), contents.listed(os.path.dirname(paths[-1]), names))


def is_whole(path: str) -> bool:
    """Whether the range whose last file is `path` is there, and as it was written."""
    if not os.path.exists(mark_of(path)):
        return False
    try:
        wanted = read_json(mark_of(path), {str: {"bytes": int, "sha256": str}})
    except CorpusError:
        return False
    return contents.changed(os.path.dirname(path), wanted) is None


def check(paths: Sequence[str]) -> None:
    """Checks ranges, by their last files, before they are put together.

    Raises:
      CorpusError: names the first that is damaged.
    """
    for path in paths:
        if not is_whole(path):
            raise CorpusError(f"{path} is damaged: run the same command again, which makes it anew")


def wait_for(paths: Sequence[str], is_over: Callable[[], bool]) -> bool:
    """Waits until other processes have written all of `paths`.

    Returns:
      False if the whole job `is_over` meanwhile, so that its parts may be gone.
    """
    told = -float("inf")
    while not is_over():
        missing = sum(not os.path.exists(path) for path in paths)
        if not missing:
            return True
        if time.monotonic() - told > _TELL_SECONDS:
            logging.info("waiting for %d ranges of other processes", missing)
            told = time.monotonic()
        time.sleep(_WAIT_SECONDS)
    return False


@contextlib.contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """Waits until no other process of the job publishes, then keeps them out."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(folder))
            # Busy, or tidied up by the process that has just published.
            except (CorpusError, FileNotFoundError):
                time.sleep(_LOCK_SECONDS)
                continue
            yield
            return
