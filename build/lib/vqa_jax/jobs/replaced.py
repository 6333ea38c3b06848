"""A set of files in a folder that may hold others: replaced whole, and nothing else is touched.

The new set is written to a folder of its own inside. Only when it is whole do the files of the set
before go and the new ones take their place; the file that makes a set complete goes first and comes
last. A journal tells what is ours if that is interrupted.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping

from absl import logging

from vqa_jax.jobs import contents, files
from vqa_jax.jobs.files import CorpusError

_NEW = ".new_set"
_JOURNAL = ".replacing.json"

Hashes = dict[str, list[str]]  # name below the folder -> SHA-256 of what a job wrote there


@contextlib.contextmanager
def replacing_set(folder: str, last: str, before: Mapping[str, str | None]) -> Iterator[str]:
    """Yields an empty folder to write a set of files to; they take the place of the set before.

    Args:
      folder: exists; nobody else is at work there (`files.exclusive`).
      last: file that makes a set complete.
      before: files of the set before, `last` included: name -> SHA-256; None: whatever is in it.

    Raises:
      CorpusError: the set would take the place of a file that is not of the set before, or `before`
        names one outside the folder. All files are then as they were.
    """
    check_inside(folder, before)
    new = os.path.join(folder, _NEW)
    shutil.rmtree(new, ignore_errors=True)  # of a job that was killed
    os.makedirs(new)
    try:
        yield new
        _take_over(folder, new, last, before)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def is_interrupted(folder: str) -> bool:
    """Whether a set was being replaced here when its job was killed."""
    return os.path.exists(os.path.join(folder, _JOURNAL))


def names_below(folder: str) -> list[str]:
    """Files below a folder, sorted, without those that jobs keep for themselves."""
    own = (".lock", _JOURNAL)
    found = contents.names_below(folder)
    return [name for name in found if name not in own and not name.startswith(_NEW + "/")]


def check_inside(folder: str, names: Mapping[str, object]) -> None:
    """Refuses names that lead out of the folder, by `..` or through a link.

    Raises:
      CorpusError: names the first.
    """
    root = os.path.realpath(folder)
    for name in names:
        parent = os.path.realpath(os.path.join(root, os.path.dirname(name)))
        inside = os.path.commonpath([root, parent]) == root
        if os.path.isabs(name) or ".." in pathlib.PurePath(name).parts or not inside:
            raise CorpusError(
                f"{folder}: its list of files names {name!r}, which is not in it: nothing is"
                " replaced; name another folder"
            )


def _take_over(folder: str, new: str, last: str, before: Mapping[str, str | None]) -> None:
    fresh = {name: files.file_sha256(os.path.join(new, name)) for name in names_below(new)}
    journal = os.path.join(folder, _JOURNAL)
    written: Hashes = files.read_json(journal, {str: [str]}) if os.path.exists(journal) else {}
    check_inside(folder, written)
    for name, digest in before.items():
        written.setdefault(name, []).extend([digest] if digest else [])
    for name, digest in fresh.items():
        path = os.path.join(folder, name)
        if os.path.isdir(path) or (
            os.path.lexists(path) and name not in written and files.file_sha256(path) != digest
        ):
            raise CorpusError(
                f"{path} was written by no such job: move it away, or name another folder; nothing"
                " was replaced"
            )
    old = [name for name in written if name not in fresh and _is_as_written(folder, name, written)]
    for name, digest in fresh.items():
        written.setdefault(name, []).append(digest)
    files.write_sealed(journal, written)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, last))
    for name in old:
        os.remove(os.path.join(folder, name))
        _remove_empty(folder, os.path.dirname(name))
    for name in sorted(fresh, key=lambda name: name == last):
        target = os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        files.commit(os.path.join(new, name), target)
    os.remove(journal)


def _is_as_written(folder: str, name: str, written: Hashes) -> bool:
    """Whether a file of the set before may go; one that somebody changed since is kept."""
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return False
    same = not written[name] or files.file_sha256(path) in written[name]
    if not same:
        logging.warning("%s was changed since it was written: it is left where it is", path)
    return same


def _remove_empty(folder: str, name: str) -> None:
    """Removes folders below `folder` that have become empty, from the innermost outwards."""
    for part in [pathlib.PurePath(name), *pathlib.PurePath(name).parents]:
        if str(part) == ".":
            return
        try:
            os.rmdir(os.path.join(folder, part))
        except OSError:
            return
