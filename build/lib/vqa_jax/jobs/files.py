"""How files are written, read, locked and hashed: whole or not at all, whatever is killed when."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

from vqa_jax.errors import VqaError
from vqa_jax.jobs import outputs

_UMASK = os.umask(0o022)  # is told by being changed
os.umask(_UMASK)
_SEAL = "seal"  # entry of a JSON object: hash of the others


class CorpusError(VqaError):
    """A corpus folder is incomplete, inconsistent or damaged; the message names file and remedy."""


class InUseError(CorpusError):
    """Another job is at work in a folder."""


def key_hash(key: str) -> int:
    """Stable 64-bit hash of a key, the same on every machine and Python."""
    data = key.encode("utf-8", "surrogateescape")  # file names may be any bytes
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def printable(path: str) -> str:
    """A path as text for records and tables; bytes that are not UTF-8 come out as \\xNN."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def file_sha256(path: str) -> str:
    """SHA-256 of a file's bytes, hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def temporary_name(path: str) -> str:
    """Where this process writes what will become `path`; `remove_temporary` knows such names."""
    return f"{path}.{os.getpid()}.tmp"


def share(path: str | os.PathLike[str]) -> None:
    """Lets those read a file whom the umask allows: safetensors makes it for its owner alone."""
    os.chmod(path, 0o666 & ~_UMASK)


def commit(temporary: str, path: str) -> None:
    """Renames a finished file after its bytes have reached the disk."""
    share(temporary)
    with open(temporary, "rb") as f:
        os.fsync(f.fileno())
    os.replace(temporary, path)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yields a temporary path to write to; it becomes `path` when the block ends well.

    An OSError that names no file, as that of a full disk, names `path`; so does what a library
    makes of it.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        commit(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = path
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        told = isinstance(error, OSError | VqaError) or not isinstance(error, Exception)
        system = None if told else outputs.of_the_system(error, path)
        if system is not None:
            raise system from error
        raise


@contextlib.contextmanager
def written(path: str, newline: str | None = None) -> Iterator[Any]:
    """Opens a text file for writing; it appears under its name only when complete.

    A stream ("-", a pipe, a device) is written to as it is.
    """
    if outputs.is_stream(path):
        with outputs.stream(path, newline) as f:
            yield f
        return
    with (
        replacing(path) as temporary,
        outputs.text_file(temporary, newline) as f,
    ):
        yield f


def write_json(path: str, value: Any) -> None:
    """Writes JSON; readers never see half a file."""
    with written(path) as f:
        json.dump(value, f, indent=1, sort_keys=True, ensure_ascii=False)
        f.write("\n")


def write_sealed(path: str, value: Mapping[str, Any]) -> None:
    """Writes a JSON object with a hash of itself, by which `read_json` notices any change."""
    write_json(path, {**value, _SEAL: _seal_of(value)})


def _seal_of(value: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(value))  # tuples as lists, keys as text
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def is_as_sealed(value: dict[str, Any]) -> bool:
    """Takes the seal off a JSON object; False if the rest is not as it was sealed."""
    return _SEAL not in value or value.pop(_SEAL) == _seal_of(value)


def read_json(path: str, shape: Any = object) -> Any:
    """Reads a JSON file, without the seal that `write_sealed` gave it.

    Args:
      path: of the file.
      shape: what its reader relies on, as somebody else may have written it: a type; a function
        that says whether a value will do; [shape of every item]; or {key: shape of its value},
        where the key `str` stands for all keys.

    Raises:
      CorpusError: it is missing, broken, not as its seal says, or of another shape; the message
        names it.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            value = json.load(f)
    except FileNotFoundError as e:
        raise CorpusError(f"{path} is missing: run the step that writes it first") from e
    except (ValueError, RecursionError) as e:  # also numbers of too many digits, deep nesting
        raise CorpusError(f"{path} is not valid JSON ({e}): delete it and rerun its step") from e
    if isinstance(value, dict) and not is_as_sealed(value):
        raise CorpusError(
            f"{path} is damaged: it is not as it was written; restore it or rerun its step (if you"
            f' edited it, remove its entry "{_SEAL}")'
        )
    if wrong := _misfit(value, shape, ""):
        raise CorpusError(f"{path} is not as its job writes it ({wrong}): rerun that step")
    return value


def is_name(value: Any) -> bool:
    """Whether a value names a file of a folder, and leads nowhere else."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & {"/", "\0"}


def is_number(value: Any) -> bool:
    """Whether a value is a number of JSON."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _misfit(value: Any, shape: Any, name: str) -> str:
    """What part of a value has another shape, "" if none has; see `read_json`."""
    if isinstance(shape, type):
        fits = isinstance(value, shape) and not (shape is int and isinstance(value, bool))
    elif callable(shape):
        fits = shape(value)
    else:
        fits = isinstance(value, type(shape))
    if not fits:
        return f"{name or 'it'} is {repr(value)[:40]}"
    prefix = f"{name}." if name else ""
    parts: list[tuple[str, Any, Any]] = []
    if isinstance(shape, list):
        parts = [(f"{name}[{k}]", item, shape[0]) for k, item in enumerate(value)]
    elif isinstance(shape, dict):
        for key, inner in shape.items():
            if key is not str and key not in value:
                return f"{prefix}{key} is missing"
            for each in value if key is str else (key,):
                parts.append((f"{prefix}{each}", value[each], inner))
    return next(filter(None, (_misfit(item, inner, at) for at, item, inner in parts)), "")


@contextlib.contextmanager
def exclusive(folder: str) -> Iterator[None]:
    """Makes `folder` and keeps other jobs out of it; the lock ends with the process, however.

    Where a file system has no locks there is none; two jobs at once then cost time, not
    correctness, as every file is renamed into place.

    Raises:
      InUseError: another job is at work there.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".lock"), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise InUseError(f"{folder} is in use by another job: wait for it to end") from e
        except OSError as e:
            logging.info("%s cannot be locked: %s", folder, e)
        yield


def remove_temporary(folder: str) -> None:
    """Removes what killed jobs left half-written directly in `folder`; no job may be at work."""
    for name in os.listdir(folder):
        if re.search(r"\.\d+\.tmp$", name):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, name))


def remove_own(folder: str, pattern: str) -> None:
    """Removes a job's files from its working folder, and the folder if nothing else is in it.

    Args:
      folder: may be missing.
      pattern: regular expression of the names that the job gives its files.
    """
    if not os.path.isdir(folder):
        return
    own = re.compile(rf"(?:{pattern})(?:\.\d+\.tmp)?|\.lock")
    for name in filter(own.fullmatch, os.listdir(folder)):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            os.remove(os.path.join(folder, name))
    try:
        os.rmdir(folder)
    except FileNotFoundError:  # another process was faster
        return
    except OSError:
        logging.warning("%s holds what no job of ours wrote: it is left where it is", folder)
