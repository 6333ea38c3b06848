"""Places: local paths, and URLs (s3://, gs://) that stand for a copy of theirs on local disk.

Readers of shards, weights and tables want local files; jobs want renames and locks, which object
stores lack. So nothing downstream knows of URLs: what one holds is fetched before the work, and
what the work makes in the copy is put back whenever a part of it is finished and at its end, every
file whole, JSON (lists and manifests, which vouch for the others) last.

A journal beside the copy tells which version of an object each file is, so that after any end only
what differs is fetched or put. The copies lie in $VQA_JAX_STAGE, or below the temporary folder.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from absl import logging

from vqa_jax.jobs import files
from vqa_jax.jobs.stores import AGAIN, STAGE, Object, PlaceError, Store

_THREADS = 8  # waiting for the store, mostly
_ROUNDS = 3  # of fetching what changes meanwhile
# What jobs have half-written, and their locks: neither put nor fetched.
_UNFINISHED = re.compile(r".*\.tmp|.*\.orbax-checkpoint-tmp.*|\.new_set|\.lock")


class _Known(NamedTuple):
    """A file of a copy as it was fetched or put: version of its object; bytes and time in ns."""

    version: str
    facts: tuple[int, int]


def is_url(path: str) -> bool:
    """Whether a path is a URL rather than a local path."""
    return "://" in path


def staged(path: str) -> str:
    """A local path of a file or folder: itself, or the copy of what is at a URL now.

    Raises:
      PlaceError: the URL cannot be read, or nothing is there.
      MissingExtraError: its store's client is not installed.
    """
    if not is_url(path):
        return path
    copy = _copy_of(path, is_folder=True)
    copy.fetch()
    if not os.path.exists(copy.path):
        raise PlaceError(f"{path} holds nothing: check the address")
    return copy.path


def output(url: str, is_folder: bool) -> Copy:
    """The copy of a URL that a job will write to, with what is there already.

    Args:
      url: of a folder or a file.
      is_folder: else a file, together with what jobs keep beside it under its name and a dot.

    Raises:
      PlaceError: the URL cannot be read or written.
      MissingExtraError: its store's client is not installed.
    """
    copy = _copy_of(url, is_folder)
    copy.store.check_writable()
    copy.fetch()
    copy.is_output = True
    return copy


def publish(path: str) -> None:
    """Puts what is new in the output that a local path is part of; without a URL there is none.

    Raises:
      PlaceError: it cannot be written.
    """
    for copy in _copies.values():
        if copy.is_output and copy.holds(path):
            copy.publish()


def named(text: str) -> str:
    """Text with URLs in place of the local paths of their copies."""
    for copy in _copies.values():
        text = text.replace(copy.path, copy.store.url)
    return text


class Copy:
    """The copy of what lies at a URL.

    Attributes:
      store: what it is a copy of.
      path: of the file or folder.
      is_output: whether a job writes to it.
    """

    def __init__(self, store: Store, folder: str):
        """Makes the folder that it lies in."""
        self.store, self.is_output = store, False
        self._folder, self._journal, self._lock = folder, f"{folder}.jsonl", f"{folder}.lock"
        self.path = os.path.join(folder, store.name)
        os.makedirs(folder, exist_ok=True)
        # Those who tidy temporary folders leave locked ones alone, for as long as we are here.
        with contextlib.suppress(OSError):
            fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)

    def holds(self, path: str) -> bool:
        """Whether a local path is part of it."""
        return path.startswith(self._folder + os.sep)

    # --- reading ----------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Makes the copy what the store holds now; what was made here and not put yet stays.

        Where a file was changed both here and there, ours is set aside, and that is said.

        Raises:
          PlaceError: it cannot be read, does not fit on the disk, or changes all the time.
        """
        with self._alone():
            for _ in range(_ROUNDS):
                there, known = self._there(), self._known()
                wanted = {name: o for name, o in there.items() if not self._has(name, o, known)}
                if not wanted:
                    break
                self._fetch(wanted, known)
            else:
                raise PlaceError(
                    f"{self.store.url_of(min(wanted))} changes, or comes incomplete, while it is"
                    " read: wait for the job that writes it to end, and run the same command again"
                )
            for name in known.keys() - there.keys():
                # No longer there: the copy goes, too, unless it was changed here since.
                if self._facts(name) == known[name].facts:
                    os.remove(os.path.join(self._folder, name))
                self._note(name)

    def _there(self) -> dict[str, Object]:
        found = self.store.listed()
        return {name: found[name] for name in found if not _is_unfinished(name)}

    def _has(self, name: str, there: Object, known: Mapping[str, _Known]) -> bool:
        """Whether a file is the store's version, or ours that follows it."""
        same = name in known and known[name].version == there.version
        return same and self._facts(name) is not None

    def _fetch(self, wanted: Mapping[str, Object], known: Mapping[str, _Known]) -> None:
        total = sum(one.size for one in wanted.values())
        room = shutil.disk_usage(self._folder).free
        if total > room:
            raise PlaceError(
                f"{self.store.url} takes {total / 1e9:.1f} GB and {self._folder} has"
                f" {room / 1e9:.1f}: free some space, or set {STAGE} to another folder"
            )
        from tqdm import tqdm  # not before --quiet has told it to say nothing

        with tqdm(total=total, desc=f"fetch {self.store.url}", unit="B", unit_scale=True) as bar:

            def get(name: str) -> None:
                self._get(name, wanted[name], known.get(name))
                bar.update(wanted[name].size)

            _at_once(get, wanted)

    def _get(self, name: str, there: Object, known: _Known | None) -> None:
        path = os.path.join(self._folder, name)
        temporary = f"{path}.0.tmp"  # only one process fetches at a time; the next one replaces it
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.store.get(name, temporary)
        if os.path.getsize(temporary) != there.size:  # another version: the next round sees it
            return
        ours = self._facts(name)
        is_changed = ours is not None and (known is None or ours != known.facts)
        if is_changed and files.file_sha256(path) != files.file_sha256(temporary):
            aside = os.path.join(f"{self._folder}.aside", name)
            os.makedirs(os.path.dirname(aside), exist_ok=True)
            os.replace(path, aside)
            url = self.store.url_of(name)
            logging.warning("%s was changed both there and here: ours is moved to %s", url, aside)
        files.commit(temporary, path)
        self._note(name, there.version, self._facts(name))

    # --- writing ----------------------------------------------------------------------------------

    def publish(self) -> None:
        """Puts every file that is new or changed, and removes what was fetched or put and is gone.

        Raises:
          PlaceError: it cannot be written, or another job has changed a file since it was fetched.
        """
        with self._alone():
            known = self._known()
            here = {name: facts for name in self._names() if (facts := self._facts(name))}
            new = [n for n, facts in here.items() if n not in known or known[n].facts != facts]
            vouching = [name for name in new if name.endswith(".json")]
            _at_once(lambda name: self._put(name, known.get(name)), set(new) - set(vouching))
            for name in sorted(vouching, key=lambda name: here[name][1]):
                self._put(name, known.get(name))
            for name in known.keys() - here.keys():
                self._check_ours(name, known[name])
                self.store.remove(name)
                self._note(name)

    def _put(self, name: str, known: _Known | None) -> None:
        path, before = os.path.join(self._folder, name), self._facts(name)
        self._check_ours(name, known)
        try:
            self.store.put(path, name)
        except FileNotFoundError:  # removed at this very moment, as an old checkpoint
            return
        there = self.store.look(name)
        is_same = before is not None and before == self._facts(name)  # else it grows, as a log
        if there is None or (is_same and there.size != before[0]):
            raise PlaceError(f"{self.store.url_of(name)} was put incomplete: {AGAIN}")
        self._note(name, there.version, before)

    def _check_ours(self, name: str, known: _Known | None) -> None:
        """Refuses to touch an object that is not as it was fetched or put."""
        there = self.store.look(name)
        if there is not None and (known is None or there.version != known.version):
            raise PlaceError(
                f"{self.store.url_of(name)} was changed by another job meanwhile and is left as it"
                " is: wait for that job to end, and run the same command again"
            )

    # --- names and the journal --------------------------------------------------------------------

    def _names(self) -> Iterator[str]:
        """Finished files of the copy."""
        for at, _, names in os.walk(self._folder, followlinks=True):
            below = (os.path.relpath(os.path.join(at, name), self._folder) for name in names)
            yield from (name for name in below if not _is_unfinished(name))

    def _facts(self, name: str) -> tuple[int, int] | None:
        """Bytes and time of a file of the copy; None if there is none."""
        try:
            stat = os.stat(os.path.join(self._folder, name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return stat.st_size, stat.st_mtime_ns

    def _known(self) -> dict[str, _Known]:
        """What the journal tells; its last line on a name counts."""
        known: dict[str, _Known] = {}
        with contextlib.suppress(FileNotFoundError), open(self._journal, encoding="utf-8") as lines:
            for line in lines:
                try:
                    name, version, facts = json.loads(line)
                except ValueError:  # empty, or what a killed process wrote last
                    continue
                known.pop(name, None)
                if facts:
                    known[name] = _Known(version, tuple(facts))
        return known

    def _note(self, name: str, version: str = "", facts: tuple[int, int] | None = None) -> None:
        """Tells the journal of a file; without facts that it is gone."""
        with open(self._journal, "a", encoding="utf-8") as journal:
            # Apart from a line that was cut off.
            journal.write(f"\n{json.dumps([name, version, facts])}\n")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other processes and threads out while the copy is compared with the store."""
        with open(self._lock, "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.info("%s: waiting for another process that copies it", self.store.url)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


_copies: dict[str, Copy] = {}  # of this process, by folder


def _copy_of(url: str, is_folder: bool) -> Copy:
    store = Store(url, is_folder)
    key = hashlib.sha256(repr(store.identity).encode()).hexdigest()[:16]
    folder = os.path.join(_stage(), key)
    if folder not in _copies:
        _copies[folder] = Copy(store, folder)
    return _copies[folder]


def _stage() -> str:
    """Folder of the copies; one that others could have made for us is not trusted."""
    given = os.environ.get(STAGE)
    folder = given or os.path.join(tempfile.gettempdir(), f"vqa_jax_stage_{os.getuid()}")
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        is_ours = os.stat(folder).st_uid == os.getuid()
    except OSError as error:
        raise PlaceError(f"{folder}: {error.strerror}: set {STAGE} to a folder") from error
    if not (given or is_ours):
        raise PlaceError(f"{folder} belongs to somebody else: set {STAGE} to a folder of yours")
    return os.path.abspath(folder)


def _at_once(do: Callable[[str], None], names: Iterable[str]) -> None:
    """Calls `do` of every name, several at a time; after an error no further one is begun."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        pending = [pool.submit(do, name) for name in sorted(names)]
        try:
            for one in concurrent.futures.as_completed(pending):
                one.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _is_unfinished(name: str) -> bool:
    return any(map(_UNFINISHED.fullmatch, name.split("/")))
